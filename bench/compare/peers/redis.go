package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/bench/compare"
)

const (
	// startWithin bounds the start of a server on a busy machine, and startPoll is how often it is
	// asked.
	startWithin, startPoll = time.Minute, 20 * time.Millisecond
	// startTries is how often a server is started if another process takes its port.
	startTries = 5
)

// startRedis starts a Redis that writes its append-only file to disk every second, and returns its
// address.
func startRedis(ctx context.Context, dir string) (*compare.Program, string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", err
	}
	for range startTries {
		var p *compare.Program
		var address string
		if p, address, err = runRedis(ctx, path, dir); err == nil {
			return p, address, nil
		}
	}
	return nil, "", fmt.Errorf("starting Redis: %w", err)
}

func runRedis(ctx context.Context, path, dir string) (*compare.Program, string, error) {
	port, err := freePort()
	if err != nil {
		return nil, "", err
	}
	log := filepath.Join(dir, "redis.log")
	p, err := compare.StartProgram(ctx, path, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
		"--daemonize", "no", "--logfile", log, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
	if err != nil {
		return nil, "", err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	client := redis.NewClient(&redis.Options{Addr: address})
	defer client.Close()
	if err := awaitReady(ctx, p, log, func(ctx context.Context) error { return client.Ping(ctx).Err() }); err != nil {
		return nil, "", errors.Join(err, p.Stop())
	}
	return p, address, nil
}

// awaitReady waits until ping returns no error. The error has the server's log.
func awaitReady(ctx context.Context, p *compare.Program, log string, ping func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	ticker := time.NewTicker(startPoll)
	defer ticker.Stop()
	for {
		err := ping(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
			continue
		case <-p.Exited():
			err = errors.New("it has ended")
		case <-ctx.Done():
		}
		said, _ := os.ReadFile(log) // empty if it said nothing
		return fmt.Errorf("it does not answer: %w; its log: %s", err, said)
	}
}

// freePort returns a TCP port of the loopback interface that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
