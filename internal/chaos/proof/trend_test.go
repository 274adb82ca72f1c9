package proof

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestSeries_RisesOnlyWhenItClearlyDoes(t *testing.T) {
	noise := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct {
		value func(share float64) float64
		want  bool
	}{
		"constant":                                   {func(float64) float64 { return 100 }, false},
		"noise around a constant":                    {func(float64) float64 { return 100 + 20*noise.NormFloat64() }, false},
		"a leak under noise":                         {func(x float64) float64 { return 100 + 100*x + 20*noise.NormFloat64() }, true},
		"a leak without noise":                       {func(x float64) float64 { return 100 + 100*x }, true},
		"growth that is less than the floor":         {func(x float64) float64 { return 1 + 5*x }, false},
		"growth that is little beside what there is": {func(x float64) float64 { return 1000 + 50*x + 10*noise.NormFloat64() }, false},
		"growth at the beginning alone":              {func(x float64) float64 { return 100 + 100*min(x, 0.2) + noise.NormFloat64() }, false},
		"peaks that pass":                            {func(x float64) float64 { return 100 + 400*math.Pow(math.Max(0, math.Sin(40*x)), 8) }, false},
		"a saw that comes back":                      {func(x float64) float64 { return 100 + 100*math.Mod(10*x, 1) }, false},
		"a decline":                                  {func(x float64) float64 { return 200 - 100*x }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := Series{Name: name, Floor: 10}
			for i := range 360 {
				s.Points = append(s.Points, Point{zero.Add(time.Duration(i) * 5 * time.Second), test.value(float64(i) / 360)})
			}
			if got := s.Rises(); got != test.want {
				t.Errorf("Rises() = %v, want %v: %+v", got, test.want, s.Trend())
			}
		})
	}
}

func TestSeries_TooFewSamplesRiseNowhere(t *testing.T) {
	var s Series
	for i := range enough {
		s.Points = append(s.Points, Point{zero.Add(time.Duration(i) * time.Second), float64(i)})
	}
	if s.Rises() {
		t.Errorf("%d samples rise: %+v", len(s.Points), s.Trend())
	}
}

func TestSeries_TrendIsTheLine(t *testing.T) {
	var s Series
	for i := range 100 {
		s.Points = append(s.Points, Point{zero.Add(time.Duration(i) * time.Minute), 10 + float64(i)})
	}
	if got := s.Trend(); math.Abs(got.PerHour-60) > 1e-6 || math.Abs(got.First-35) > 1e-6 || math.Abs(got.Last-109) > 1e-6 {
		t.Errorf("the trend is %+v, want 60 an hour from 35 to 109", got)
	}
}

func TestRecord_LatenessIsMeasuredFromWhatWasDecided(t *testing.T) {
	r := fine()
	r.Attempts[1].At = at(360)
	s := r.Lateness(at(0), time.Minute)
	if len(s.Points) != 1 || s.Points[0].Value != 1 {
		t.Errorf("the lateness is %+v, want one median of 1 ms", s.Points)
	}
}
