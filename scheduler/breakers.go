package scheduler

import (
	"strconv"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

// BreakerChanged returns the event that tells of a change of a breaker, whose circuit is
// known as c, and the event's id, which is the same whoever tells of the change.
func BreakerChanged(change breaker.Change, c *breaker.Circuit) (e events.BreakerChange, id string, err error) {
	service, operation, err := events.SplitKey(change.Key)
	if err != nil {
		return e, "", err
	}
	e = events.BreakerChange{
		Key: change.Key, Service: service, Operation: operation, From: change.From.String(), To: change.To.String(),
		Cause: string(change.Cause), By: change.Operator, Note: change.Note, At: change.At.UTC(), Held: change.Held, OutageSince: c.OutageSince.UTC(),
		FailureCount: c.FailureCount, LastFailureTime: c.LastFailureTime.UTC(), LastError: change.Error, NextAttemptTime: change.NextAttempt.UTC(),
		HalfOpenAttempts: c.HalfOpenAttempts, TotalRequests: c.TotalRequests, TotalFailures: c.TotalFailures,
		AverageResponseTimeMs: c.AverageResponseTime,
	}
	// Instances that were detached may have made changes of the same generation.
	id = change.Key + "." + strconv.FormatUint(change.Generation, 10) + "." + strconv.FormatInt(change.At.UnixMilli(), 36) + "." + events.BreakerChanged
	return e, id, nil
}
