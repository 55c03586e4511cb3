package console

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

//go:embed templates/*.html
var templates embed.FS

// pages are the templates, each with the layout around it.
type pages struct {
	words words
	byKey map[string]*template.Template
}

func newPages() (*pages, error) {
	w, err := readWords(english)
	if err != nil {
		return nil, err
	}
	p := &pages{words: w, byKey: make(map[string]*template.Template)}
	entries, err := templates.ReadDir("templates")
	if err != nil {
		return nil, err
	}
	shared, err := template.New("").Funcs(p.functions()).ParseFS(templates, "templates/_*.html")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "_") {
			continue
		}
		t, err := shared.Clone()
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(templates, "templates/"+e.Name()); err != nil {
			return nil, err
		}
		p.byKey[strings.TrimSuffix(e.Name(), ".html")] = t
	}
	return p, nil
}

// view is what a template is given.
type view struct {
	Title   string
	Theme   string // "light", "dark" or "auto"
	Prefix  string // of the site
	Base    string // of the account's pages
	Active  string // entry of the navigation
	Portal  bool
	Brand   *Brand
	HasLogo bool
	Session *session
	CSRF    string
	Account *accountView
	Flash   *flash
	Path    string // of this page, with its query
	D       any    // what the page itself shows
}

// accountView is the account as the frame of the page shows it.
type accountView struct{ ID, Name string }

// render writes a page. What fails halfway is not sent: the page is made whole first.
func (p *page) render(status int, name, title string, data any) error {
	v := &view{
		Title: title, Theme: theme(p.r), Prefix: p.site.prefix, Base: p.base, Active: active(p.r.URL.Path, p.base),
		Portal: p.site.portal, Brand: &p.deps.Config.Brand, HasLogo: p.logo != nil,
		Session: p.session, CSRF: p.session.CSRF, Path: p.r.URL.RequestURI(), D: data,
	}
	if p.account != "" {
		v.Account = &accountView{ID: p.account, Name: cmp.Or(p.name, p.account)}
	}
	if status < http.StatusBadRequest {
		v.Flash = p.takeFlash()
	}
	return p.pages.write(p.w, status, name, "layout", v)
}

// fragment is one template of a page, without the frame.
func (p *page) fragment(name, block string, data any) (string, error) {
	v := &view{Prefix: p.site.prefix, Base: p.base, Portal: p.site.portal, Session: p.session, CSRF: p.session.CSRF, D: data}
	var b bytes.Buffer
	err := p.pages.byKey[name].ExecuteTemplate(&b, block, v)
	return b.String(), err
}

func (p *pages) write(w http.ResponseWriter, status int, name, block string, v *view) error {
	t := p.byKey[name]
	if t == nil {
		return fmt.Errorf("no template %s", name)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, block, v); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w)
	return nil
}

// alone writes a page without the frame of the signed-in: the sign-in, and what stands in its place.
func (p *pages) alone(w http.ResponseWriter, status int, v *view) {
	if err := p.write(w, status, "alone", "alone", v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// aloneView is what such a page shows: the texts of two keys.
func (c *Console) aloneView(r *http.Request, s *site, title, text string) *view {
	return &view{
		Title: c.pages.words.get(title), Theme: theme(r), Prefix: s.prefix, Base: s.prefix, Portal: s.portal,
		Brand: &c.deps.Config.Brand, HasLogo: c.logo != nil, D: map[string]any{"Text": c.pages.words.get(text)},
	}
}

const themeCookie = "postrider_theme"

// theme is what the reader chose; the browser's own preference if nothing.
func theme(r *http.Request) string {
	if k, err := r.Cookie(themeCookie); err == nil && (k.Value == "light" || k.Value == "dark") {
		return k.Value
	}
	return "auto"
}

// active is the first word of a page's path below the account's.
func active(path, base string) string {
	rest, ok := strings.CutPrefix(path, base)
	if !ok {
		return ""
	}
	word, _, _ := strings.Cut(rest, "/")
	if word == "" {
		return "overview"
	}
	return word
}
