package console

import "html/template"

// icons are line drawings in a square of 24.
var icons = map[string]string{
	"overview":     `<path d="M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-3H4zM14 7h6V4h-6z"/>`,
	"webhooks":     `<path d="M5 12h11M12 7l5 5-5 5M20 5v14"/>`,
	"deliveries":   `<path d="M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01"/>`,
	"events":       `<path d="M13 3 5 14h6l-1 7 8-11h-6z"/>`,
	"dead-letters": `<path d="M4 13l3-8h10l3 8v6H4zM4 13h5l1 3h4l1-3h5"/>`,
	"replays":      `<path d="M4 12a8 8 0 1 1 2.5 5.8M4 12V6M4 12h6"/>`,
	"event-types":  `<path d="M5 4h11a3 3 0 0 1 3 3v13H8a3 3 0 0 1-3-3zM5 17a3 3 0 0 1 3-3h11"/>`,
	"explain":      `<path d="M5 6a2 2 0 1 0 .01 0M19 18a2 2 0 1 0-.01 0M7 6h6a4 4 0 0 1 0 8h-2a4 4 0 0 0 0 4h6"/>`,
	"verify":       `<path d="M12 3l7 3v6c0 4.5-3 7.5-7 9-4-1.500-7-4.500-7-9V6zM9 12l2.200 2.200L15.500 10"/>`,
	"keys":         `<path d="M14 10a4.500 4.500 0 1 0-4 4.500L12 17h2v2h2v2h4v-3.500l-6.200-6.200"/>`,
	"audit":        `<path d="M12 8v4l3 2M4 12a8 8 0 1 0 8-8c-3 0-5.500 1.500-7 4M4 4v4h4"/>`,
	"settings":     `<path d="M4 7h10M18 7h2M4 17h2M10 17h10M16 5a2 2 0 1 0 .01 0M8 15a2 2 0 1 0 .01 0"/>`,
	"search":       `<path d="M11 4a7 7 0 1 0 .01 0M16 16l4 4"/>`,
	"theme":        `<path d="M12 4a8 8 0 1 0 8 8 6 6 0 0 1-8-8z"/>`,
	"copy":         `<path d="M9 9h11v11H9zM5 15V4h11"/>`,
	"plus":         `<path d="M12 5v14M5 12h14"/>`,
	"check":        `<path d="M5 12l5 5L19 7"/>`,
	"cross":        `<path d="M6 6l12 12M18 6 6 18"/>`,
	"out":          `<path d="M10 5H5v14h5M14 8l4 4-4 4M18 12H9"/>`,
}

// icon is decoration: what it stands beside says the same in words.
func icon(name string) template.HTML {
	return template.HTML(`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">` + icons[name] + `</svg>`) //nolint:gosec // our own drawings
}
