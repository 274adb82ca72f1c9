package main

import (
	"context"
	"fmt"
	"time"
)

const parkForADay = `
default: {maxAttempts: 5, baseDelay: 24h, maxDelay: 48h, backoffStrategy: fixed, jitterType: none, maxElapsedTime: 0}
`

// memory compares the service's resident memory with nothing and with n operations parked, in the
// process that parked them and in one that was started afterwards.
func memory(ctx context.Context, r *rig, n int) error {
	show := func(what string) (float64, error) {
		if err := r.settle(ctx); err != nil {
			return 0, err
		}
		bytes, err := r.resident()
		mib := float64(bytes) / (1 << 20)
		fmt.Printf("  %-46s %7.1f MiB\n", what, mib)
		return mib, err
	}
	if err := r.start(ctx, parkForADay); err != nil {
		return err
	}
	if _, err := show("started, nothing parked"); err != nil {
		return err
	}
	// A little work brings the process to its working size.
	warm := max(n/10, 1)
	if err := r.park(ctx, warm); err != nil {
		return err
	}
	if err := r.stopAndPurge(ctx); err != nil {
		return err
	}
	if err := r.start(ctx, parkForADay); err != nil {
		return err
	}
	none, err := show("started, nothing parked (second start)")
	if err != nil {
		return err
	}
	if err := r.park(ctx, warm); err != nil {
		return err
	}
	worked, err := show(fmt.Sprintf("has parked %d", warm))
	if err != nil {
		return err
	}
	start := time.Now()
	if err := r.park(ctx, n-warm); err != nil {
		return err
	}
	fmt.Printf("  parked at %.0f/s\n", float64(n-warm)/time.Since(start).Seconds())
	full, err := show(fmt.Sprintf("has parked %d", n))
	if err != nil {
		return err
	}
	if err := r.stop(); err != nil {
		return err
	}
	if err := r.start(ctx, parkForADay); err != nil {
		return err
	}
	onto, err := show(fmt.Sprintf("started, %d parked", n))
	if err != nil {
		return err
	}
	fmt.Printf("  %d parked against none: %+.1f %% (started onto them); against %d: %+.1f %% (having parked them)\n",
		n, 100*(onto/none-1), warm, 100*(full/worked-1))
	return nil
}

// park submits operations and waits until they are parked.
func (r *rig) park(ctx context.Context, n int) error {
	before := r.messages(ctx, "RETRY")
	if err := r.submit(ctx, n); err != nil {
		return err
	}
	return await(ctx, 10*time.Minute, func() bool {
		return r.messages(ctx, "RETRY") >= before+uint64(n) && r.messages(ctx, "RETRY_INTAKE") == 0
	})
}

func (r *rig) stopAndPurge(ctx context.Context) error {
	if err := r.stop(); err != nil {
		return err
	}
	s, err := r.js.Stream(ctx, "RETRY")
	if err != nil {
		return err
	}
	return s.Purge(ctx)
}

// settle waits until the resident memory is stable: the Go runtime releases memory in the
// background.
func (r *rig) settle(ctx context.Context) error {
	last, steady := int64(0), 0
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for range 180 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now, err := r.resident()
		if err != nil {
			return err
		}
		if diff := now - last; diff > -(256<<10) && diff < 256<<10 {
			steady++
		} else {
			steady = 0
		}
		if last = now; steady >= 15 {
			return nil
		}
	}
	return nil
}
