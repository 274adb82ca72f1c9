package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/strictjson"
)

// TypeHealth is the type of a report that a service makes on its own health.
const TypeHealth = "rebound.health.v1"

const (
	// MaxHealthFigure is the largest count, load or response time that may be
	// reported.
	MaxHealthFigure = 1e9
	// maxHealthData bounds a report, in bytes.
	maxHealthData = 16 << 10
)

// HealthReport is the data of rebound.health.v1: how a service is, as it says
// itself. Every figure is optional. One that is reported no more fades.
type HealthReport struct {
	// CPUUtilization, MemoryUtilization and PoolUtilization are in percent, 0 to
	// 100; the last is how much of its connection pool the service uses.
	CPUUtilization    *float64 `json:"cpuUtilization,omitempty"`
	MemoryUtilization *float64 `json:"memoryUtilization,omitempty"`
	PoolUtilization   *float64 `json:"poolUtilization,omitempty"`
	// SystemLoad is the load average per core; 1 keeps every core busy.
	SystemLoad *float64 `json:"systemLoad,omitempty"`
	// ActiveConnections and QueueLength count connections in use and requests
	// that wait.
	ActiveConnections *int `json:"activeConnections,omitempty"`
	QueueLength       *int `json:"queueLength,omitempty"`
	// SuccessRate and ErrorRate are shares of all requests, 0 to 1.
	SuccessRate *float64 `json:"successRate,omitempty"`
	ErrorRate   *float64 `json:"errorRate,omitempty"`
	// AverageResponseTime is in milliseconds.
	AverageResponseTime *float64 `json:"averageResponseTime,omitempty"`
}

// healthFigure says what values a figure of a report may have, and where it goes.
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

// DecodeHealth reads a report from a message on a health subject: a CloudEvent of
// type [TypeHealth] in binary or in structured mode, or its bare data. It returns
// the service that the subject names. The error lists every fault; it shows
// nothing of the message but the names of figures and numbers.
func DecodeHealth(subjects Subjects, m *nats.Msg) (service string, report HealthReport, err error) {
	if service, err = subjects.SplitHealth(m.Subject); err != nil {
		return "", HealthReport{}, err
	}
	if len(m.Data) > maxHealthData {
		return service, HealthReport{}, fmt.Errorf("the report has %d bytes, more than the %d allowed", len(m.Data), maxHealthData)
	}
	data, err := reportData(m, TypeHealth, attribute{"service", service})
	if err != nil {
		return service, HealthReport{}, err
	}
	report, err = readHealth(data)
	return service, report, err
}

// reportData returns the data of a report, whatever mode it is in. A CloudEvent
// must be of a type, and its attributes, where it has them, as the subject says.
func reportData(m *nats.Msg, eventType string, attributes ...attribute) ([]byte, error) {
	msg := message{header: m.Header, data: m.Data}
	encoding := msg.ReadEncoding()
	switch encoding {
	case binding.EncodingBatch:
		return nil, errors.New("a batch of CloudEvents is not accepted; report one event a message")
	case binding.EncodingUnknown:
		return m.Data, nil
	}
	e, err := msg.event()
	if err != nil {
		return nil, fmt.Errorf("reading the CloudEvent in %s mode: %w", encoding, sanitised(err))
	}
	if err := checkReportEvent(e, eventType, attributes); err != nil {
		return nil, err
	}
	if encoding == binding.EncodingBinary {
		return m.Data, nil
	}
	return e.Data(), nil
}

// attribute is an extension attribute and what it must be.
type attribute struct{ name, value string }

// checkReportEvent checks the attributes of a report.
func checkReportEvent(e *event.Event, eventType string, attributes []attribute) error {
	var faults []error
	if err := e.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("not a valid CloudEvent: %s", strings.Join(strings.Fields(sanitised(err).Error()), " ")))
	}
	if e.Type() != eventType {
		faults = append(faults, fmt.Errorf("type %q is not %s", clip(e.Type(), 80), eventType))
	}
	if t := e.DataContentType(); t != "" && !isJSON(t) {
		faults = append(faults, fmt.Errorf("content type %q is not JSON", clip(t, 80)))
	}
	for _, a := range attributes {
		if named, ok := e.Extensions()[a.name]; ok {
			if s, err := types.Format(named); err != nil || s != a.value {
				faults = append(faults, fmt.Errorf("attribute %s %q differs from %q in the subject", a.name, clip(s, 80), a.value))
			}
		}
	}
	return errors.Join(faults...)
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == event.ApplicationJSON || media == event.TextJSON || strings.HasSuffix(media, "+json")
}

// readHealth reads the data of a report, strictly: a misspelt figure that were
// passed over would never be missed.
func readHealth(data []byte) (HealthReport, error) {
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(data, &fields); err != nil {
		return HealthReport{}, fmt.Errorf("the data is not a JSON object of figures: %w", err)
	}
	if len(fields) == 0 {
		return HealthReport{}, errors.New("the data reports no figure")
	}
	var report HealthReport
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		figure, known := healthFigures[name]
		if !known {
			faults = append(faults, fmt.Errorf("%q is none of the figures %s", clip(name, 40), strings.Join(slices.Sorted(maps.Keys(healthFigures)), ", ")))
			continue
		}
		value, err := figure.read(fields[name])
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %w", name, err))
			continue
		}
		figure.set(&report, value)
	}
	if len(faults) > 0 {
		return HealthReport{}, errors.Join(faults...)
	}
	return report, nil
}

// read reads the value of a figure.
func (f healthFigure) read(raw json.RawMessage) (float64, error) {
	var number *json.Number
	if err := json.Unmarshal(raw, &number); err != nil || number == nil || raw[0] == '"' {
		return 0, errors.New("is no number")
	}
	// One that is too large for a float is out of range as well.
	value, err := number.Float64()
	switch shown := clip(number.String(), 40); {
	case err != nil, value < 0, value > f.most:
		return 0, fmt.Errorf("is %s, not between 0 and %.f", shown, f.most)
	case f.whole && value != math.Trunc(value):
		return 0, fmt.Errorf("is %s, no whole number", shown)
	}
	return value, nil
}

// Message returns the message that makes the report for a service: a CloudEvent
// in binary mode from source, made at now. The id distinguishes it from the
// source's other events.
func (r HealthReport) Message(subjects Subjects, service, source, id string, now time.Time) (*nats.Msg, error) {
	if err := CheckName(service); err != nil {
		return nil, fmt.Errorf("service %w", err)
	}
	e := event.New()
	e.SetID(id)
	e.SetSource(source)
	e.SetType(TypeHealth)
	e.SetTime(now.UTC())
	e.SetExtension("service", service)
	if err := e.SetData(event.ApplicationJSON, r); err != nil {
		return nil, fmt.Errorf("encoding the health report of service %s: %w", service, err)
	}
	m, err := EncodeEvent(subjects.Health(service), &e)
	if err != nil {
		return nil, err
	}
	// What no instance would take is better refused here.
	if _, _, err := DecodeHealth(subjects, m); err != nil {
		return nil, fmt.Errorf("the health report of service %s: %w", service, err)
	}
	return m, nil
}
