package console

import (
	"math"
	"strconv"
)

// contrast is the contrast ratio (WCAG 2.2) of a colour such as #3d5a80 and a grey, 0 for black and
// 255 for white.
func contrast(colour string, grey uint8) float64 {
	n, err := strconv.ParseUint(colour[1:], 16, 32)
	if err != nil {
		return 0
	}
	a := luminance(uint8(n>>16), uint8(n>>8), uint8(n)) //nolint:gosec // one byte each
	b := luminance(grey, grey, grey)
	return (max(a, b) + 0.05) / (min(a, b) + 0.05)
}

func luminance(r, g, b uint8) float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(r) + 0.7152*linear(g) + 0.0722*linear(b)
}
