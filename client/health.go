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
	// stall is how long to wait for a further answer after each answer, allTimeout how long to
	// wait for all of them.
	stall      = 250 * time.Millisecond
	allTimeout = 2 * time.Second
)

// LocalHealth returns the health of every service at which this process has made attempts with
// [Execute] or whose health it has reported, sorted by name (the original design's
// getServiceHealthMetrics).
func (c *Client) LocalHealth() []health.Metrics {
	now := time.Now()
	for _, m := range c.meters() {
		m.drain(now)
	}
	return c.health.All(health.Circuits(c.sharing.group.States()), now)
}

// FetchHealth asks every instance of Rebound for the health of the services, as all of them measure
// it at redeliveries and as the services report themselves, with the state of their breakers, and
// merges the answers with [health.Merge]. It returns 250 ms after the last answer, at most after
// 2 s. The list is empty if no instance answers.
func (c *Client) FetchHealth(ctx context.Context) ([]health.Metrics, error) {
	if err := c.connected(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	answers, err := natsext.RequestMany(ctx, c.nc, c.subjects.Endpoint("health"), nil, natsext.RequestManyStall(stall))
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

// ReportHealth reports the health of a target service, as the target itself knows it. Adaptive
// delays heed it, including those of [Execute] in this process. A report counts in full for a
// minute and then fades, so repeat it about every half minute. It is not stored: ReportHealth
// returns an error if the report cannot be sent, but not if no instance hears it.
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
