package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/internal/strictjson"
)

// TypeHealth is the CloudEvents type of a service's report on its own health.
const TypeHealth = "rebound.health.v1"

// MaxHealthFigure is the largest count, load or response time accepted in a report.
const MaxHealthFigure = 1e9

// HealthReport is the data of rebound.health.v1: a service's report on its own health. Every
// figure is optional. A figure that is no longer reported fades.
type HealthReport struct {
	// CPUUtilization, MemoryUtilization and PoolUtilization, of the connection pool, are in
	// percent, 0 to 100.
	CPUUtilization    *float64 `json:"cpuUtilization,omitempty"`
	MemoryUtilization *float64 `json:"memoryUtilization,omitempty"`
	PoolUtilization   *float64 `json:"poolUtilization,omitempty"`
	// SystemLoad is the load average per core; at 1 every core is busy.
	SystemLoad *float64 `json:"systemLoad,omitempty"`
	// ActiveConnections and QueueLength count connections in use and requests waiting.
	ActiveConnections *int `json:"activeConnections,omitempty"`
	QueueLength       *int `json:"queueLength,omitempty"`
	// SuccessRate and ErrorRate are shares of all requests, 0 to 1.
	SuccessRate *float64 `json:"successRate,omitempty"`
	ErrorRate   *float64 `json:"errorRate,omitempty"`
	// AverageResponseTime is in milliseconds.
	AverageResponseTime *float64 `json:"averageResponseTime,omitempty"`
}

// healthFigure is the range of a figure and the field that it sets.
type healthFigure struct {
	most  float64
	whole bool
	set   func(*HealthReport, float64)
}

var healthFigures = map[string]healthFigure{
	"cpuUtilization":      {100, false, func(r *HealthReport, v float64) { r.CPUUtilization = &v }},
	"memoryUtilization":   {100, false, func(r *HealthReport, v float64) { r.MemoryUtilization = &v }},
	"poolUtilization":     {100, false, func(r *HealthReport, v float64) { r.PoolUtilization = &v }},
	"systemLoad":          {MaxHealthFigure, false, func(r *HealthReport, v float64) { r.SystemLoad = &v }},
	"activeConnections":   {MaxHealthFigure, true, func(r *HealthReport, v float64) { n := int(v); r.ActiveConnections = &n }},
	"queueLength":         {MaxHealthFigure, true, func(r *HealthReport, v float64) { n := int(v); r.QueueLength = &n }},
	"successRate":         {1, false, func(r *HealthReport, v float64) { r.SuccessRate = &v }},
	"errorRate":           {1, false, func(r *HealthReport, v float64) { r.ErrorRate = &v }},
	"averageResponseTime": {MaxHealthFigure, false, func(r *HealthReport, v float64) { r.AverageResponseTime = &v }},
}

// ParseHealth reads the data of a report. It is strict, because nobody would notice that a
// misspelt figure is ignored. The error lists every problem; of the data it shows only names of
// figures and numbers.
func ParseHealth(data []byte) (HealthReport, error) {
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &fields); err != nil {
		return HealthReport{}, fmt.Errorf("the data is not a JSON object of figures: %w", err)
	}
	if len(fields) == 0 {
		return HealthReport{}, errors.New("the data reports no figure")
	}
	var report HealthReport
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		figure, known := healthFigures[name]
		if !known {
			errs = append(errs, fmt.Errorf("%q is none of the figures %s", clip.Text(name, 40), strings.Join(slices.Sorted(maps.Keys(healthFigures)), ", ")))
			continue
		}
		value, err := figure.read(fields[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %w", name, err))
			continue
		}
		figure.set(&report, value)
	}
	if len(errs) > 0 {
		return HealthReport{}, errors.Join(errs...)
	}
	return report, nil
}

// read reads the value of a figure.
func (f healthFigure) read(raw json.RawMessage) (float64, error) {
	var number *json.Number
	if err := json.Unmarshal(raw, &number); err != nil || number == nil || raw[0] == '"' {
		return 0, errors.New("is no number")
	}
	// A number too large for a float is out of range as well.
	value, err := number.Float64()
	switch shown := clip.Text(number.String(), 40); {
	case err != nil, value < 0, value > f.most:
		return 0, fmt.Errorf("is %s, not between 0 and %.f", shown, f.most)
	case f.whole && value != math.Trunc(value):
		return 0, fmt.Errorf("is %s, no whole number", shown)
	}
	return value, nil
}
