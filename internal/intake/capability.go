package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/natsext"
	"golang.org/x/time/rate"
)

// An instance announces in the metadata of its micro service that it supports operations
// that were taken in ahead of their turn.
const (
	CapabilityKey = "intake"
	Capability    = "ahead"
)

const (
	// askEvery is how often all instances are asked for their capability, with askTimeout.
	// While one is not capable they are asked again after askAgain.
	askEvery   = 10 * time.Second
	askAgain   = time.Second
	askTimeout = time.Second
)

// capability knows whether every instance is capable. It belongs to one goroutine.
type capability struct {
	nc              *nats.Conn
	service, prefix string
	log             *slog.Logger
	warn            rate.Sometimes

	asked   time.Time
	askedOf int // how many instances
	capable bool
}

// ofAll reports whether all of that many instances are capable.
func (c *capability) ofAll(ctx context.Context, instances int) bool {
	every := askEvery
	if !c.capable {
		every = askAgain
	}
	if time.Since(c.asked) < every && c.askedOf == instances {
		return c.capable
	}
	err := c.ask(ctx, instances)
	c.asked, c.askedOf, c.capable = time.Now(), instances, err == nil
	if err != nil && ctx.Err() == nil {
		c.warn.Do(func() {
			c.log.Warn("a service that has many submissions delays the others: not every instance is known to be of this version", "error", err)
		})
	}
	return c.capable
}

// ask asks all instances. The error says why not all of them are known to be capable.
func (c *capability) ask(ctx context.Context, instances int) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	replies, err := natsext.RequestMany(ctx, c.nc, micro.APIPrefix+".INFO."+c.service, nil)
	if err != nil {
		return fmt.Errorf("asking for the instances: %w", err)
	}
	answered := 0
	for m, err := range replies {
		if errors.Is(err, nats.ErrNoResponders) {
			break
		}
		if err != nil {
			return fmt.Errorf("asking for the instances: %w", err)
		}
		var info micro.Info
		if err := json.Unmarshal(m.Data, &info); err != nil {
			return fmt.Errorf("decoding the answer of an instance: %w", err)
		}
		if info.Metadata["prefix"] != c.prefix {
			continue
		}
		if info.Metadata[CapabilityKey] != Capability {
			return fmt.Errorf("instance %s of version %s is older", info.ID, info.Version)
		}
		if answered++; answered >= instances {
			return nil
		}
	}
	return fmt.Errorf("%d of %d instances answered", answered, instances)
}
