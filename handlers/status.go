package handlers

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/micro"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/schemas"
)

// statusLimit is how many breakers and gates a status lists.
const statusLimit = 20

// maxWaitingShown is how many services with waiting submissions the status lists.
const maxWaitingShown = 5

// monitor reports the state of an instance. It reads every part and changes none.
type monitor struct{ *parts }

// instances returns the state of the instances as this one sees it.
func (m *monitor) instances() health.Coordination { return m.member.View(m.clock.Now()) }

// ready is [Service.Ready].
func (m *monitor) ready() error {
	if m.life.IsDraining() {
		return errors.New("the instance is stopping")
	}
	if !m.nc.IsConnected() {
		return errors.New("the instance is not connected to NATS")
	}
	if m.config.Trouble != nil {
		if trouble := m.config.Trouble(); trouble != "" {
			return errors.New(trouble)
		}
	}
	if err := m.keeper.Problem(); err != nil {
		return err
	}
	if full := m.storage.Problem(); full != "" {
		return errors.New(full)
	}
	return nil
}

// status counts what waits where. The counts are taken one after the other, so under
// load they need not add up.
func (m *monitor) status(ctx context.Context, _ micro.Request) (any, error) {
	status := schemas.Status{
		Instance: m.id, Version: m.config.Version, Started: m.started.UTC(), Server: m.nc.ConnectedServerVersion(),
		Limit: m.limit.Most(), Waiting: []schemas.ServiceSubmitted{}, RetryCoordination: m.instances(),
		Pauses: m.pauses.Follower.List(), LimitsShared: !m.leases.Divided(), Coordination: m.breakers.coordination(),
		Reports: schemas.ReportCounts{Taken: m.workReports.taken.Load(), Refused: m.workReports.refused.Load()},
	}
	status.Policies, _ = m.policies.standing()
	for _, count := range []func(context.Context, *schemas.Status) error{m.countPulled, m.countStored} {
		if err := count(ctx, &status); err != nil {
			return nil, err
		}
	}
	status.Gates, status.GateCounts = m.gates.Worst(statusLimit, m.clock.Now())
	status.Breakers, status.BreakerCounts = m.breakers.notClosed(ctx, statusLimit)
	return status, nil
}

// countPulled counts what the consumers have yet to deliver and what is in flight.
func (m *monitor) countPulled(ctx context.Context, status *schemas.Status) (err error) {
	for _, p := range m.pullers {
		c, err := m.js.Consumer(ctx, p.Stream(), p.Name())
		if err != nil {
			return fmt.Errorf("reading consumer %s: %w", p.Name(), err)
		}
		info := c.CachedInfo()
		switch waiting := info.NumPending + uint64(info.NumAckPending); {
		case p.Name() == reportConsumer:
			status.Reports.Waiting = waiting
		case p.Stream() == m.streams.Intake():
			status.Submitted = waiting
		default:
			status.Due += info.NumPending
			status.InFlight += uint64(info.NumAckPending)
		}
	}
	if status.Submitted > 0 {
		status.Waiting, err = m.submissions.Most(ctx, maxWaitingShown)
	}
	return err
}

// countStored counts the rest of what the streams hold.
func (m *monitor) countStored(ctx context.Context, status *schemas.Status) (err error) {
	waiting, err := m.messages(ctx, m.streams.Waiting())
	if err != nil {
		return err
	}
	if status.Held, err = m.lanes.Count(ctx, "", ""); err != nil {
		return err
	}
	if active := status.Due + status.InFlight + status.Held; waiting > active {
		status.Parked = waiting - active
	}
	if status.Dead, err = m.messages(ctx, m.streams.Dead()); err != nil {
		return err
	}
	status.Outcomes, err = m.messages(ctx, m.streams.Outcomes())
	return err
}

// messages returns how many messages a stream holds.
func (m *monitor) messages(ctx context.Context, stream string) (uint64, error) {
	st, err := m.js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	return st.CachedInfo().State.Msgs, nil
}

// health answers with the services' health as this instance knows it.
func (m *monitor) health(_ context.Context, r micro.Request) (any, error) {
	var request schemas.HealthQuery
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Service != "" {
		if err := events.CheckName(request.Service); err != nil {
			return nil, badRequestError{fmt.Errorf("service %w", err)}
		}
	}
	now := m.clock.Now()
	answer := schemas.Health{Instance: m.id, RefusedReports: m.healthReports.Refused(), Services: []health.Metrics{}, Held: m.held()}
	if err := m.ready(); err != nil {
		answer.NotReady = err.Error()
	}
	answer.Warnings = m.warnings()
	if host, ok := m.registry.Host(); ok {
		answer.Host = &host
	}
	if request.Service == "" {
		answer.Services = m.registry.All(m.breakers.circuits(), now)
	} else if metrics, ok := m.registry.Metrics(request.Service, m.breakers.circuits(), now); ok {
		answer.Services = append(answer.Services, metrics)
	}
	return answer, nil
}

// coordination answers with the state of the instances.
func (m *monitor) coordination(context.Context, micro.Request) (any, error) {
	return schemas.Coordination{Instance: m.id, Coordination: m.instances(), Sharing: m.breakers.coordination()}, nil
}
