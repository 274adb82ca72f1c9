package peers

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sync/errgroup"
)

// roleRiver is the process that submits to River and executes its jobs.
const roleRiver = "river"

const (
	// riverBatch is how many jobs are inserted in one round trip, and riverInserters how many of
	// these are under way at once.
	riverBatch, riverInserters = 1000, 2
	// riverFetch is how often River looks for jobs that are due. The shorter it is, the fewer jobs it
	// finds at a time, which costs throughput; riverFetchPaced keeps a load with a rate on time. A retry
	// within five seconds is made available when its job fails, so that no other interval delays it.
	riverFetch, riverFetchPaced = 50 * time.Millisecond, 5 * time.Millisecond
	// riverConnections is how many connections to PostgreSQL River may use.
	riverConnections = 16
)

// riverArgs are the arguments of a job, which River stores as JSON.
type riverArgs struct {
	Index int    `json:"index"`
	Data  string `json:"data"`
}

// Kind implements river.JobArgs.
func (riverArgs) Kind() string { return "bench" }

// riverWorker executes jobs.
type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	record *record
}

// Work implements river.Worker.
func (w *riverWorker) Work(_ context.Context, job *river.Job[riverArgs]) error {
	return w.record.execute(job.Args.Index, job.Attempt-1, time.Now())
}

// NextRetry implements river.Worker.
func (w *riverWorker) NextRetry(job *river.Job[riverArgs]) time.Time {
	now := time.Now()
	return now.Add(w.record.delay(job.Args.Index, now))
}

// riverPeer is River with one client.
type riverPeer struct {
	pool    *pgxpool.Pool
	workers int
	record  *record
	client  *river.Client[pgx.Tx]
}

// openRiver connects to a new cluster and makes River's tables.
func openRiver(ctx context.Context, s setup) (queue, error) {
	config, err := pgxpool.ParseConfig(s.Address)
	if err != nil {
		return nil, err
	}
	config.MaxConns = riverConnections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("making River's tables: %w", err)
	}
	return &riverPeer{pool: pool, workers: s.Workers}, nil
}

func (p *riverPeer) start(ctx context.Context, r *record) error {
	fetch := riverFetch
	if r.load.Rate > 0 {
		fetch = riverFetchPaced
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{record: r})
	client, err := river.NewClient(riverpgxv5.New(p.pool), &river.Config{
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: p.workers}},
		Workers:           workers,
		FetchCooldown:     fetch,
		FetchPollInterval: fetch,
		JobTimeout:        -1, // spares a timer for each execution
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	// Completed jobs stay for a day; settled counts those of one load only.
	if _, err := p.pool.Exec(ctx, "TRUNCATE river_job"); err != nil {
		return err
	}
	p.record, p.client = r, client
	return client.Start(ctx)
}

func (p *riverPeer) submit(ctx context.Context, from, to int, after delays) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(riverInserters)
	for ; from < to; from += riverBatch {
		first, last := from, min(from+riverBatch, to)
		group.Go(func() error {
			_, err := p.client.InsertManyFast(ctx, p.jobs(first, last, after))
			return err
		})
	}
	return group.Wait()
}

func (p *riverPeer) jobs(from, to int, after delays) []river.InsertManyParams {
	data := strings.Repeat("x", p.record.load.Size)
	jobs := make([]river.InsertManyParams, 0, to-from)
	for i := from; i < to; i++ {
		job := river.InsertManyParams{Args: riverArgs{i, data}}
		if after != nil {
			job.InsertOpts = &river.InsertOpts{ScheduledAt: time.Now().Add(after(i))}
		}
		jobs = append(jobs, job)
	}
	return jobs
}

func (p *riverPeer) settled(ctx context.Context, operations int) (bool, error) {
	var completed, lost int
	err := p.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE state = 'completed'),
		count(*) FILTER (WHERE state IN ('discarded', 'cancelled')) FROM river_job`).Scan(&completed, &lost)
	if err != nil {
		return false, err
	}
	if lost > 0 {
		return false, fmt.Errorf("River gave up %d jobs", lost)
	}
	return completed == operations, nil
}

func (p *riverPeer) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
	defer cancel()
	return p.client.Stop(ctx)
}
