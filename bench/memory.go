package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
)

const parkForADay = `
default: {maxAttempts: 5, baseDelay: 24h, maxDelay: 48h, backoffStrategy: fixed, jitterType: none, maxElapsedTime: 0}
`

// serverForgets is how long the server keeps what only recent messages need: their ids, and the
// subjects of the blocks in which they are stored.
const serverForgets = events.DedupWindow + 30*time.Second

// weight is the memory of the processes in bytes. Live is what the server's heap holds after a
// garbage collection.
type weight struct{ service, server, live int64 }

// memory compares the memory of the service and of the NATS server with nothing and with n
// operations parked, in the processes that parked them and in processes that were started
// afterwards.
func memory(ctx context.Context, r *rig, n int) error {
	fresh, err := r.warmUp(ctx, n)
	if err != nil {
		return err
	}
	if err := r.start(ctx, parkForADay); err != nil {
		return err
	}
	none, err := r.weigh(ctx, "service started again, none parked")
	if err != nil {
		return err
	}
	worked, full, err := r.parkAll(ctx, n)
	if err != nil {
		return err
	}
	if err := r.sleep(ctx, serverForgets); err != nil {
		return err
	}
	idle, err := r.weigh(ctx, fmt.Sprintf("idle for %s", serverForgets))
	if err != nil {
		return err
	}
	if err := r.showDisk(n); err != nil {
		return err
	}
	if err := r.stop(); err != nil {
		return err
	}
	if err := r.restartServer(ctx); err != nil {
		return err
	}
	if err := r.start(ctx, parkForADay); err != nil {
		return err
	}
	onto, err := r.weigh(ctx, fmt.Sprintf("both started, %d parked", n))
	if err != nil {
		return err
	}
	fmt.Printf("  service: %d parked against none: %s (started onto them); against %d: %s (having parked them)\n",
		n, percent(onto.service, none.service), warmth(n), percent(full.service, worked.service))
	fmt.Printf("  server: %d bytes of live heap an operation when idle, %d after a start\n",
		(idle.live-fresh.live)/int64(n), (onto.live-fresh.live)/int64(n))
	return nil
}

// warmth is how many operations bring the processes to their working size.
func warmth(n int) int { return max(n/10, 1) }

// percent says by how much a figure differs from another.
func percent(have, want int64) string {
	return fmt.Sprintf("%+.1f %%", 100*(float64(have)/float64(want)-1))
}

// warmUp parks some operations and forgets them, because the first ones make a process grow to its
// working size. It returns what the processes weigh before.
func (r *rig) warmUp(ctx context.Context, n int) (fresh weight, err error) {
	if err := r.start(ctx, parkForADay); err != nil {
		return fresh, err
	}
	if fresh, err = r.weigh(ctx, "both started, none parked"); err != nil {
		return fresh, err
	}
	if err := r.park(ctx, warmth(n)); err != nil {
		return fresh, err
	}
	return fresh, r.stopAndPurge(ctx)
}

// parkAll parks n operations, and returns what the processes weigh with the first of them and with
// all.
func (r *rig) parkAll(ctx context.Context, n int) (worked, full weight, err error) {
	if err := r.park(ctx, warmth(n)); err != nil {
		return worked, full, err
	}
	if worked, err = r.weigh(ctx, fmt.Sprintf("has parked %d", warmth(n))); err != nil {
		return worked, full, err
	}
	start := time.Now()
	if err := r.park(ctx, n-warmth(n)); err != nil {
		return worked, full, err
	}
	took := time.Since(start)
	peak, err := processMemory(r.server.PID(), "VmHWM")
	if err != nil {
		return worked, full, err
	}
	fmt.Printf("  parked at %.0f/s; the server had %s at most\n", float64(n-warmth(n))/took.Seconds(), mebibytes(peak))
	full, err = r.weigh(ctx, fmt.Sprintf("has parked %d", n))
	return worked, full, err
}

// weigh prints the memory of the processes once the service's is steady. The server's heap is
// collected last, because that changes what it occupies.
func (r *rig) weigh(ctx context.Context, what string) (w weight, err error) {
	if err := r.settle(ctx); err != nil {
		return w, err
	}
	if w.service, err = r.resident(); err != nil {
		return w, err
	}
	if w.server, err = processMemory(r.server.PID(), "VmRSS"); err != nil {
		return w, err
	}
	live, err := r.server.LiveHeap()
	if err != nil {
		return w, err
	}
	w.live = int64(live)
	fmt.Printf("  %-36s service %s   server %s, live heap %s\n", what, mebibytes(w.service), mebibytes(w.server), mebibytes(w.live))
	return w, nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%7.1f MiB", float64(n)/(1<<20)) }

// showDisk prints the size of the files of each stream that n operations filled.
func (r *rig) showDisk(n int) error {
	bytes, err := bytesByStream(r.dir)
	if err != nil {
		return err
	}
	for _, stream := range []string{"RETRY", "RETRY_OUTCOMES"} {
		fmt.Printf("  %-36s %d bytes on disk an operation\n", stream, bytes[stream]/int64(n))
	}
	return nil
}

// bytesByStream adds up the files below each directory of a stream.
func bytesByStream(store string) (map[string]int64, error) {
	bytes := map[string]int64{}
	err := filepath.WalkDir(store, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && entry.IsDir() {
			return nil // the server removes blocks at any time
		}
		if err != nil {
			return err
		}
		_, below, ok := strings.Cut(filepath.ToSlash(path), "/streams/")
		if !ok {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stream, _, _ := strings.Cut(below, "/")
		bytes[stream] += info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measuring the server's files: %w", err)
	}
	return bytes, nil
}

// park submits operations and waits until they are parked.
func (r *rig) park(ctx context.Context, n int) error {
	before := r.messages(ctx, "RETRY")
	if err := r.submit(ctx, n); err != nil {
		return err
	}
	return await(ctx, 20*time.Minute, func() bool {
		return r.messages(ctx, "RETRY") >= before+uint64(n) && r.messages(ctx, "RETRY_INTAKE") == 0
	})
}

// stopAndPurge stops the service and removes what was parked.
func (r *rig) stopAndPurge(ctx context.Context) error {
	if err := r.stop(); err != nil {
		return err
	}
	for _, name := range []string{"RETRY", "RETRY_OUTCOMES"} {
		s, err := r.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		if err := s.Purge(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the service's resident memory is stable: the Go runtime releases memory in the
// background.
func (r *rig) settle(ctx context.Context) error {
	last, steady := int64(0), 0
	for range 180 {
		if err := r.sleep(ctx, time.Second); err != nil {
			return err
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

// sleep waits, and returns an error when ctx ends before.
func (*rig) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
