package console

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"

	"github.com/postrider/postrider/pkg/conf"
)

// Brand is how the portal looks.
type Brand struct {
	Name       string `conf:"name" help:"name that the portal shows"`
	Accent     string `conf:"accent" help:"colour of buttons and links in the portal, such as #3d5a80; must be dark enough for white text"`
	AccentDark string `conf:"accent-dark" help:"the same for readers who prefer a dark screen, light enough for black text; empty: the console's own"`
	Logo       string `conf:"logo" help:"file of the portal's logo, SVG or PNG, at most 64 KiB; empty: none"`
}

var (
	colourForm    = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	ancestorsForm = regexp.MustCompile(`^(https?://[A-Za-z0-9.*-]+(:[0-9]{1,5})?( https?://[A-Za-z0-9.*-]+(:[0-9]{1,5})?)*)?$`)
)

// Validate reports every fault at once.
func (b *Brand) Validate() error {
	return errors.Join(
		conf.NotEmpty("name", b.Name),
		conf.Rule(colourForm.MatchString(b.Accent) && contrast(b.Accent, 255) >= minContrast, "accent",
			"must be a colour such as #3d5a80 on which white text can be read (a contrast of 4.5)"),
		conf.Rule(b.AccentDark == "" || colourForm.MatchString(b.AccentDark) && contrast(b.AccentDark, 0) >= minContrast, "accent-dark",
			"must be a colour such as #8fb4dc on which black text can be read (a contrast of 4.5)"),
	)
}

// minContrast is that of WCAG 2.2 AA for text.
const minContrast = 4.5

// css is the style sheet that puts the brand's colours in place of ours.
func (b *Brand) css() string {
	dark := cmp.Or(b.AccentDark, "#8fb4dc")
	const rule = "--accent: %s; --accent-strong: %s;"
	light, night := fmt.Sprintf(rule, b.Accent, b.Accent), fmt.Sprintf(rule, dark, dark)
	return ":root { " + light + " }\n" +
		"@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { " + night + " } }\n" +
		":root[data-theme=dark] { " + night + " }\n"
}

// logo is a picture, with its media type.
type logo struct {
	media string
	bytes []byte
}

const maxLogo = 64 << 10

func readLogo(path string) (*logo, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	media := map[string]string{".svg": "image/svg+xml", ".png": "image/png"}[filepath.Ext(path)]
	if media == "" {
		return nil, fmt.Errorf("%s: must be an .svg or a .png", path)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	if len(b) > maxLogo {
		return nil, fmt.Errorf("%s: must be at most 64 KiB", path)
	}
	return &logo{media, b}, nil
}

func (c *Console) serveBrand(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write([]byte(c.deps.Config.Brand.css()))
}

func (c *Console) serveLogo(w http.ResponseWriter, r *http.Request) {
	if c.logo == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", c.logo.media)
	_, _ = w.Write(c.logo.bytes)
}
