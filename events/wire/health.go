package wire

import (
	"fmt"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
)

// maxHealthData bounds a report, in bytes.
const maxHealthData = 16 << 10

// DecodeHealth reads a report from a message on a health subject: a CloudEvent of type
// [events.TypeHealth] in binary or structured mode, or its bare data. It returns the service
// named by the subject. The error lists every problem; of the message it shows only names of
// figures and numbers.
func DecodeHealth(subjects events.Subjects, m *nats.Msg) (service string, report events.HealthReport, err error) {
	if service, err = subjects.SplitHealth(m.Subject); err != nil {
		return "", events.HealthReport{}, err
	}
	if len(m.Data) > maxHealthData {
		return service, events.HealthReport{}, fmt.Errorf("the report has %d bytes, more than the %d allowed", len(m.Data), maxHealthData)
	}
	data, err := reportData(m, events.TypeHealth, attribute{"service", service})
	if err != nil {
		return service, events.HealthReport{}, err
	}
	report, err = events.ParseHealth(data)
	return service, report, err
}

// EncodeHealth returns the message that carries a report for a service: a CloudEvent in binary
// mode.
func EncodeHealth(subjects events.Subjects, service string, r events.HealthReport, from Envelope) (*nats.Msg, error) {
	if err := events.CheckName(service); err != nil {
		return nil, fmt.Errorf("service %w", err)
	}
	e := from.event(events.TypeHealth)
	e.SetExtension("service", service)
	if err := e.SetData(event.ApplicationJSON, r); err != nil {
		return nil, fmt.Errorf("encoding the health report of service %s: %w", service, err)
	}
	m, err := EncodeCloudEvent(subjects.Health(service), &e)
	if err != nil {
		return nil, err
	}
	// A report that no instance would accept is better refused here.
	if _, _, err := DecodeHealth(subjects, m); err != nil {
		return nil, fmt.Errorf("the health report of service %s: %w", service, err)
	}
	return m, nil
}
