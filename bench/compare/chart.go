package compare

import (
	"fmt"
	"image/color"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// series is one figure of each contender.
type series struct {
	name   string
	values []float64
	color  color.Color
}

// colors are told apart by readers who do not see red and green apart.
var colors = []color.Color{
	color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
	color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff},
	color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
}

const (
	chartWidth = 20 * vg.Centimeter
	// barWidth is the thickness of one bar, and between the space that a contender has besides.
	barWidth, between = 9, 12
	// legendLine is the height of a line of the legend, and axisHeight that of the axis below.
	legendLine, axisHeight = 14, 60
)

// charts writes the charts of the report into dir and returns their names.
func (r Report) charts(dir string) ([]string, error) {
	rates := slices.DeleteFunc(slices.Clone(r.Plan.Measurements), func(m Measurement) bool { return m.Waiting > 0 || m.Load.Rate > 0 })
	shown := r.best(rates)
	if len(shown) == 0 {
		return nil, nil
	}
	ofRates, ofCPU := r.Plan.Name+"-throughput.svg", r.Plan.Name+"-cpu.svg"
	var throughput []series
	for i, m := range rates {
		throughput = append(throughput, series{name: m.Name, color: colors[i%len(colors)], values: r.values(shown, m, rate)})
	}
	if err := draw(filepath.Join(dir, ofRates), "operations a second (median)", shown, throughput, false); err != nil {
		return nil, err
	}
	var cpu []series
	for i, role := range []string{RoleService, RoleBoth, RoleServer, RoleHarness} {
		values := r.values(shown, rates[0], func(s Sample) float64 { return float64(s.CPU[role]) / float64(time.Microsecond) })
		if slices.Max(values) > 0 {
			cpu = append(cpu, series{name: role, color: colors[(i+2)%len(colors)], values: values})
		}
	}
	if err := draw(filepath.Join(dir, ofCPU), "CPU time of one operation, µs (median, "+rates[0].Name+")", shown, cpu, true); err != nil {
		return nil, err
	}
	return []string{ofRates, ofCPU}, nil
}

// best returns the names of the contenders that were measured; of the variants of one system only
// the fastest.
func (r Report) best(measurements []Measurement) []string {
	if len(measurements) == 0 {
		return nil
	}
	fastest := make(map[string]string)
	speed := func(name string) float64 { return median(each(r.Of(name, measurements[0].Name), rate)) }
	for _, c := range r.Plan.Contenders {
		if other, ok := fastest[c.Of]; c.Of != "" && (!ok || speed(c.Name) > speed(other)) {
			fastest[c.Of] = c.Name
		}
	}
	var names []string
	for _, c := range r.Plan.Contenders {
		if len(r.Of(c.Name, measurements[0].Name)) > 0 && (c.Of == "" || fastest[c.Of] == c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// values returns the median of a figure for each contender.
func (r Report) values(contenders []string, m Measurement, figure func(Sample) float64) []float64 {
	values := make([]float64, len(contenders))
	for i, name := range contenders {
		values[i] = median(each(r.Of(name, m.Name), figure))
	}
	return values
}

// draw writes a chart with a horizontal bar for each contender and series, side by side or stacked.
func draw(path, title string, contenders []string, all []series, stacked bool) error {
	p := plot.New()
	p.X.Label.Text = title
	p.Y.Label.Text = " " // keeps the names off the edge
	p.Legend.Top = true
	// The axis counts upwards, and the first contender is to stand at the top.
	names := slices.Clone(contenders)
	slices.Reverse(names)
	p.NominalY(names...)
	p.Add(plotter.NewGrid())
	side := 1
	if !stacked {
		side = len(all)
	}
	var below *plotter.BarChart
	for i, s := range all {
		values := slices.Clone(s.values)
		slices.Reverse(values)
		bars, err := plotter.NewBarChart(plotter.Values(values), vg.Points(barWidth))
		if err != nil {
			return fmt.Errorf("drawing %s: %w", s.name, err)
		}
		bars.Horizontal, bars.Color, bars.LineStyle.Width = true, s.color, 0
		switch {
		case !stacked:
			bars.Offset = vg.Points(barWidth * (float64(side-1)/2 - float64(i)))
		case below != nil:
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
		p.Legend.Add(s.name, bars)
	}
	// The legend stands above the first contender, and the longest bar ends before the edge.
	row := float64(barWidth*side + between)
	legend := float64(legendLine*len(all)) / row
	p.X.Min, p.X.Max = 0, p.X.Max*1.03
	p.Y.Min, p.Y.Max = -0.6, float64(len(contenders))-0.4+legend
	height := vg.Points((float64(len(contenders))+legend)*row + axisHeight)
	if err := p.Save(chartWidth, height, path); err != nil {
		return fmt.Errorf("writing the chart: %w", err)
	}
	return nil
}
