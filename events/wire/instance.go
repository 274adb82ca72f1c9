package wire

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
	"github.com/rebound-mq/rebound/internal/strictjson"
)

const (
	// headerPolicies carries [events.InstanceReport.Policies], headerStore its Store, headerDelivered
	// each of its Delivered: consumer, nanoseconds since 1970 and sequence. headerServices carries all
	// Services: each is the hash in base 36, successes and failures.
	headerPolicies  = "Retry-Policies"
	headerStore     = "Retry-Store"
	headerDelivered = "Retry-Delivered"
	headerServices  = "Retry-Services"
	// headerEvidence carries all Evidence, the fields of each in the order of encodeEvidence:
	// numbers are in base 36, times in milliseconds (response times in microseconds), trend and
	// variation in thousandths.
	headerEvidence = "Retry-Evidence"
	// headerCapacity carries Capacity: overload, limit and, if something lowers it, what.
	headerCapacity = "Retry-Capacity"

	// maxInstanceReport bounds a report, in bytes.
	maxInstanceReport = 4 << 10
	maxPolicies       = 255
)

// EncodeInstance returns the message that reports r to the other instances. It returns an error
// for a report that none of them would accept.
func EncodeInstance(subjects events.Subjects, r *events.InstanceReport) (*nats.Msg, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the report of instance %s: %w", clip.Text(r.ID, 80), err)
	}
	m := &nats.Msg{Subject: subjects.Instance(r.ID), Data: data, Header: make(nats.Header)}
	if clip.IsLine(r.Policies, maxPolicies) && r.Policies != "" {
		m.Header.Set(headerPolicies, r.Policies)
	}
	if r.Store != "" {
		m.Header.Set(headerStore, r.Store)
	}
	for _, d := range r.Delivered {
		m.Header.Add(headerDelivered, fmt.Sprintf("%s %d %d", d.Consumer, d.Made.UnixNano(), d.Sequence))
	}
	if c := r.Capacity; c != (events.Capacity{}) {
		m.Header.Set(headerCapacity, strings.TrimSpace(fmt.Sprintf("%.3f %d %s", c.Overload, c.InHandLimit, c.LimitedBy)))
	}
	if len(r.Services) > 0 {
		m.Header.Set(headerServices, encodeServices(r.Services))
	}
	if len(r.Evidence) > 0 {
		m.Header.Set(headerEvidence, encodeEvidence(r.Evidence))
	}
	if _, err := DecodeInstance(subjects, m); err != nil {
		return nil, fmt.Errorf("the report of instance %s: %w", clip.Text(r.ID, 80), err)
	}
	return m, nil
}

// DecodeInstance reads a report from a message on a [events.Subjects.Instance]. It is strict,
// because anyone who may publish there could send anything. The error lists every problem.
func DecodeInstance(subjects events.Subjects, m *nats.Msg) (events.InstanceReport, error) {
	id, err := subjects.SplitInstance(m.Subject)
	if err != nil {
		return events.InstanceReport{}, err
	}
	if len(m.Data) > maxInstanceReport {
		return events.InstanceReport{}, fmt.Errorf("the report has %d bytes, more than the %d allowed", len(m.Data), maxInstanceReport)
	}
	var r events.InstanceReport
	if err := strictjson.Unmarshal(m.Data, &r); err != nil {
		return events.InstanceReport{}, fmt.Errorf("reading the report: %w", err)
	}
	if r.Policies = HeaderValue(m.Header, headerPolicies); !clip.IsLine(r.Policies, maxPolicies) {
		return events.InstanceReport{}, fmt.Errorf("header %s is no line of at most %d bytes", headerPolicies, maxPolicies)
	}
	r.Store = HeaderValue(m.Header, headerStore)
	if r.Delivered, err = decodeDelivered(m.Header.Values(headerDelivered)); err != nil {
		return events.InstanceReport{}, err
	}
	if r.Capacity, err = decodeCapacity(HeaderValue(m.Header, headerCapacity)); err != nil {
		return events.InstanceReport{}, err
	}
	if r.Services, err = decodeServices(HeaderValue(m.Header, headerServices)); err != nil {
		return events.InstanceReport{}, err
	}
	if r.Evidence, err = decodeEvidence(HeaderValue(m.Header, headerEvidence)); err != nil {
		return events.InstanceReport{}, err
	}
	if err := r.Check(id); err != nil {
		return events.InstanceReport{}, err
	}
	return r, nil
}

// decodeDelivered reads the headers that carry the consumers' positions.
func decodeDelivered(values []string) ([]events.Delivered, error) {
	if len(values) > events.MaxDelivered {
		return nil, fmt.Errorf("header %s stands %d times, more than the %d allowed", headerDelivered, len(values), events.MaxDelivered)
	}
	var all []events.Delivered
	for _, v := range values {
		fields := strings.Split(v, " ")
		if len(fields) != 3 || events.CheckName(fields[0]) != nil {
			return nil, fmt.Errorf("header %s: %q is no consumer, time and sequence", headerDelivered, clip.Text(v, 80))
		}
		made, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("header %s: the time %q is no number", headerDelivered, clip.Text(fields[1], 40))
		}
		sequence, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil || sequence == 0 {
			return nil, fmt.Errorf("header %s: %q is no sequence", headerDelivered, clip.Text(fields[2], 40))
		}
		all = append(all, events.Delivered{Consumer: fields[0], Made: time.Unix(0, made).UTC(), Sequence: sequence})
	}
	return all, nil
}

// decodeCapacity reads the header that carries the capacity.
func decodeCapacity(value string) (c events.Capacity, err error) {
	if value == "" {
		return c, nil
	}
	fields := strings.Split(value, " ")
	if len(fields) == 3 {
		c.LimitedBy = fields[2]
	}
	if len(fields) < 2 || len(fields) > 3 || len(fields) == 3 && c.LimitedBy == "" {
		return c, fmt.Errorf("header %s: %q is no overload, limit and cause", headerCapacity, clip.Text(value, 80))
	}
	if c.Overload, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return c, fmt.Errorf("header %s: the overload %q is no number", headerCapacity, clip.Text(fields[0], 40))
	}
	if c.InHandLimit, err = strconv.Atoi(fields[1]); err != nil {
		return c, fmt.Errorf("header %s: the limit %q is no whole number", headerCapacity, clip.Text(fields[1], 40))
	}
	return c, nil
}

func encodeServices(services []events.ServiceAttempts) string {
	var b strings.Builder
	for i, s := range services {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s:%d:%d", strconv.FormatUint(uint64(s.Service), 36), s.Succeeded, s.Failed)
	}
	return b.String()
}

// decodeServices reads the header that carries the attempts of services.
func decodeServices(value string) ([]events.ServiceAttempts, error) {
	if value == "" {
		return nil, nil
	}
	if n := strings.Count(value, " ") + 1; n > events.MaxServices {
		return nil, fmt.Errorf("header %s has %d services, more than the %d allowed", headerServices, n, events.MaxServices)
	}
	var all []events.ServiceAttempts
	for v := range strings.SplitSeq(value, " ") {
		fields := strings.Split(v, ":")
		if len(fields) != 3 {
			return nil, fmt.Errorf("header %s: %q is no service, successes and failures", headerServices, clip.Text(v, 80))
		}
		hash, err := strconv.ParseUint(fields[0], 36, 64)
		if err != nil || len(all) > 0 && events.ServiceHash(hash) <= all[len(all)-1].Service {
			return nil, fmt.Errorf("header %s: the service %q is no number above the one before", headerServices, clip.Text(fields[0], 40))
		}
		s := events.ServiceAttempts{Service: events.ServiceHash(hash)}
		for i, to := range []*int{&s.Succeeded, &s.Failed} {
			n, err := strconv.ParseUint(fields[i+1], 10, 64)
			if err != nil || n > events.MaxInstanceFigure {
				return nil, fmt.Errorf("header %s: %q is no number of attempts", headerServices, clip.Text(fields[i+1], 40))
			}
			*to = int(n)
		}
		all = append(all, s)
	}
	return all, nil
}
