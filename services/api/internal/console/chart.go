package console

import (
	"fmt"
	"math"
	"strings"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// chart is a drawing in its own units, which the browser scales.
type chart struct {
	Width, Height, Left, TextX, TextY int
	Label                             string // what it shows, for who cannot see it
	YTicks, XTicks                    []tick
	Bars                              []bar
	Lines                             []line
}

type tick struct {
	At          string
	Text, Short string
}

type bar struct{ Class, X, Y, W, H string }

type line struct{ Class, D string }

const (
	chartWidth, chartHeight = 640, 180
	chartLeft, chartTop     = 48, 8
	chartBottom             = 26
	chartTicks              = 4
	plotHeight              = chartHeight - chartTop - chartBottom
	wideChart               = 1160 // of one that has the whole page to itself
	barShare                = 0.72
)

func newChart(width int, label string, points []*postriderv1.ActivityPoint, top float64, text func(float64) string) *chart {
	c := &chart{Width: width, Height: chartHeight, Left: chartLeft, TextX: chartLeft - 8, TextY: chartHeight - 6, Label: label}
	for i := range chartTicks + 1 {
		v := top * float64(i) / chartTicks
		c.YTicks = append(c.YTicks, tick{At: place(yOf(v, top)), Text: text(v)})
	}
	every := max(len(points)/6, 1)
	for i, pt := range points {
		if i%every == every/2 {
			at := pt.GetTime().AsTime()
			c.XTicks = append(c.XTicks, tick{At: place(c.x(i, len(points)) + c.step(len(points))/2), Text: at.Format(time.RFC3339), Short: at.Format("15:04")})
		}
	}
	return c
}

// step is the width of one of n steps of time.
func (c *chart) step(n int) float64 { return float64(c.Width-chartLeft) / float64(max(n, 1)) }

// x is where step i of n begins.
func (c *chart) x(i, n int) float64 { return chartLeft + float64(i)*c.step(n) }

func yOf(v, top float64) float64 { return chartTop + plotHeight*(1-v/top) }

func place(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// niceTop is the end of an axis: the next of 1, 2, 4 or 8 times a power of ten, so that its four steps
// are numbers that people like.
func niceTop(most float64) float64 {
	if most <= 0 {
		return chartTicks
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{1, 2, 4, 8, 10} {
		if most <= f*power {
			return f * power
		}
	}
	return most
}

// attemptsChart shows how many attempts succeeded and failed in each step, one on the other.
func attemptsChart(width int, w words, points []*postriderv1.ActivityPoint, v *activityView) *chart {
	most := int64(0)
	for _, pt := range points {
		most = max(most, pt.GetSucceeded()+pt.GetFailed())
	}
	top := max(niceTop(float64(most)), chartTicks)
	if top == 10 {
		top = 12 // whose quarters are whole
	}
	c := newChart(width, w.get("chart.attempts.label", v.succeeded, v.failures), points, top, func(v float64) string { return shownCount(int64(v)) })
	thick := c.step(len(points)) * barShare
	for i, pt := range points {
		x := c.x(i, len(points)) + c.step(len(points))*(1-barShare)/2
		add := func(class string, from, n int64) {
			if n == 0 {
				return
			}
			y, base := yOf(float64(from+n), top), yOf(float64(from), top)
			c.Bars = append(c.Bars, bar{class, place(x), place(y), place(thick), place(base - y)})
		}
		add("fill-good", 0, pt.GetSucceeded())
		add("fill-bad", pt.GetSucceeded(), pt.GetFailed())
	}
	return c
}

// latencyChart shows how long attempts took, as two lines with gaps where nothing happened.
func latencyChart(w words, points []*postriderv1.ActivityPoint, v *activityView) *chart {
	most := time.Duration(0)
	for _, pt := range points {
		most = max(most, pt.GetP99().AsDuration())
	}
	top := niceTop(float64(most.Microseconds()))
	if most == 0 {
		top = 4000
	}
	c := newChart(chartWidth, w.get("chart.latency.label", v.P50, v.P99), points, top, func(v float64) string { return shownDuration(time.Duration(v) * time.Microsecond) })
	p50 := func(pt *postriderv1.ActivityPoint) time.Duration { return pt.GetP50().AsDuration() }
	p99 := func(pt *postriderv1.ActivityPoint) time.Duration { return pt.GetP99().AsDuration() }
	c.Lines = []line{{"line-b", c.polyline(points, top, p99)}, {"line-a", c.polyline(points, top, p50)}}
	return c
}

func (c *chart) polyline(points []*postriderv1.ActivityPoint, top float64, of func(*postriderv1.ActivityPoint) time.Duration) string {
	var b strings.Builder
	drawing := false
	for i, pt := range points {
		if pt.GetP50() == nil {
			drawing = false
			continue
		}
		x, y := c.x(i, len(points))+c.step(len(points))/2, yOf(float64(of(pt).Microseconds()), top)
		if drawing {
			fmt.Fprintf(&b, "L%s %s", place(x), place(y))
		} else {
			fmt.Fprintf(&b, "M%s %sh.01", place(x), place(y)) // a lone point is a dot
		}
		drawing = true
	}
	return b.String()
}
