package proof

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Point is one sample of a series.
type Point struct {
	At    time.Time
	Value float64
}

// Series is a figure over time.
type Series struct {
	Name string
	// Floor is how much the figure may grow whatever its initial value.
	Floor  float64
	Points []Point
}

// Trend is the least-squares line through a series.
type Trend struct {
	// First and Last are the line's first and last values.
	First, Last float64
	// PerHour is its slope, T the slope in units of its standard error.
	PerHour, T float64
	Samples    int
}

const (
	// warmUp is the share of a series that is ignored, while caches fill.
	warmUp = 0.25
	// enough is the number of samples needed for a trend.
	enough = 30
	// steep is the relative growth that counts as clear, and sure the number of standard errors
	// by which the slope must differ from zero.
	steep, sure = 0.25, 5
)

// Trend fits a line to the series without its warm-up.
func (s *Series) Trend() Trend {
	points := s.Points[int(float64(len(s.Points))*warmUp):]
	t := Trend{Samples: len(points)}
	if len(points) < 3 {
		return t
	}
	x := func(p Point) float64 { return p.At.Sub(points[0].At).Hours() }
	n, sumX, sumY := float64(len(points)), 0.0, 0.0
	for _, p := range points {
		sumX, sumY = sumX+x(p), sumY+p.Value
	}
	meanX, meanY := sumX/n, sumY/n
	var sxx, sxy float64
	for _, p := range points {
		sxx += (x(p) - meanX) * (x(p) - meanX)
		sxy += (x(p) - meanX) * (p.Value - meanY)
	}
	if sxx == 0 {
		return t
	}
	t.PerHour = sxy / sxx
	line := func(at float64) float64 { return meanY + t.PerHour*(at-meanX) }
	var rest float64
	for _, p := range points {
		d := p.Value - line(x(p))
		rest += d * d
	}
	t.First, t.Last = line(0), line(x(points[len(points)-1]))
	if t.PerHour != 0 {
		t.T = t.PerHour / math.Max(math.Sqrt(rest/(n-2)/sxx), math.SmallestNonzeroFloat64)
	}
	return t
}

// Rises reports whether the series clearly grows.
func (s *Series) Rises() bool {
	t := s.Trend()
	return t.Samples >= enough && t.T > sure && t.Last-t.First > s.Floor && t.Last-t.First > steep*math.Abs(t.First)
}

// PrintTrends prints the trend of each series.
func PrintTrends(w io.Writer, all []Series) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "series\tsamples\tfrom\tto\tslope an hour\tt\t")
	for i := range all {
		t, verdict := all[i].Trend(), "flat"
		switch {
		case t.Samples < enough:
			verdict = "too short to tell"
		case all[i].Rises():
			verdict = "RISES"
		}
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%+.1f\t%.1f\t%s\n", all[i].Name, t.Samples, t.First, t.Last, t.PerHour, t.T, verdict)
	}
	return table.Flush()
}

// Lateness returns how late the attempts since the given time came, in milliseconds: the median
// of each window.
func (r *Record) Lateness(since time.Time, window time.Duration) Series {
	c := index(r)
	late := make(map[time.Time][]float64)
	for key, attempts := range c.attempts {
		for _, a := range attempts {
			if s := c.due[attemptOf{key, a.Number}]; s != nil && a.At.After(since) {
				slot := a.At.Truncate(window)
				late[slot] = append(late[slot], float64(a.At.Sub(s.Event.Due))/float64(time.Millisecond))
			}
		}
	}
	series := Series{Name: "lateness p50 (ms)", Floor: 50}
	for slot, values := range late {
		slices.Sort(values)
		series.Points = append(series.Points, Point{slot, values[len(values)/2]})
	}
	slices.SortFunc(series.Points, func(a, b Point) int { return a.At.Compare(b.At) })
	return series
}
