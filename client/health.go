package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/synadia-io/orbit.go/natsext"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
)

const (
	// stall is how long after an instance's answer another's is waited for, and
	// allTimeout how long all of them are.
	stall      = 250 * time.Millisecond
	allTimeout = 2 * time.Second
)

// LocalHealth returns the health of every service at which this process has
// made attempts by [Execute], or of which it has reported the health, by name
// (the original design's getServiceHealthMetrics).
func (c *Client) LocalHealth() []health.Metrics {
	now := time.Now()
	for _, m := range c.meters() {
		m.drain(now)
	}
	return c.health.All(now)
}

// FetchHealth asks every instance of the service for the health of the services, as
// it measures it at redeliveries and as they report it themselves, and puts the
// answers together, see [health.Merge]. It waits for 250 ms after the last
// answer, at most 2 s. The list is empty when no instance answers.
func (c *Client) FetchHealth(ctx context.Context) ([]health.Metrics, error) {
	if err := c.connected(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	answers, err := natsext.RequestMany(ctx, c.nc, endpoint("health"), nil, natsext.RequestManyStall(stall))
	if err != nil {
		return nil, fmt.Errorf("client: asking for the health of the services: %w", err)
	}
	var instances [][]health.Metrics
	for m, err := range answers {
		if errors.Is(err, nats.ErrNoResponders) {
			break
		}
		var answer struct {
			Services []health.Metrics `json:"services"`
		}
		if err == nil {
			err = ErrorFromReply(m)
		}
		if err == nil {
			err = json.Unmarshal(m.Data, &answer)
		}
		if err != nil {
			return nil, fmt.Errorf("client: asking for the health of the services: %w", err)
		}
		instances = append(instances, answer.Services)
	}
	return health.Merge(instances...), nil
}

// endpoint returns the subject of one of the service's requests.
func endpoint(name string) string { return "rebound." + name }

// ReportHealth tells the service how one of its targets is, as the target itself
// knows, so that adaptive delays go by it, those of [Execute] in this process
// included. A report counts in full for a minute and then fades, so it is to be
// repeated every half minute or so. It is not stored; one that cannot be sent is
// an error, one that is not heard is not.
func (c *Client) ReportHealth(ctx context.Context, service string, report events.HealthReport) error {
	if err := c.connected(); err != nil {
		return err
	}
	now := time.Now()
	m, err := wire.EncodeHealth(c.subjects, service, report, wire.Envelope{Source: c.source, ID: nuid.Next(), Time: now})
	if err == nil {
		err = c.nc.PublishMsg(m)
		if err == nil {
			err = flush(ctx, c.nc)
		}
		err = errors.Join(err, c.health.Report(service, report, now))
	}
	if err != nil {
		return fmt.Errorf("client: reporting the health of %s: %w", service, err)
	}
	return nil
}
