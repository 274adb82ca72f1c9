package compare

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Plan says what is measured.
type Plan struct {
	// Name is that of the files which its report is written to.
	Name         string
	Contenders   []Contender
	Measurements []Measurement
	// Baseline is the name of the contender that the rates of the others are divided by.
	Baseline string
	// Rounds is how many times each contender is started and measured.
	Rounds int
	// Within bounds one contender's part of a round. 0 means half an hour.
	Within time.Duration
	// Progress is told what is being measured, a line each.
	Progress io.Writer
}

// Report is what a plan found.
type Report struct {
	Plan    Plan
	Began   time.Time
	Samples []Sample
	// Absent says why contenders were not measured, or not to the end, by their names.
	Absent map[string]string
}

// Run measures all contenders in interleaved rounds, beginning each round with another one, so that
// none always follows the same. A contender that fails is left out of what follows; the report has
// the reason. The error is ctx's.
func (p Plan) Run(ctx context.Context) (Report, error) {
	r := Report{Plan: p, Began: time.Now(), Absent: make(map[string]string)}
	for _, c := range p.Contenders {
		if c.Missing == nil {
			continue
		}
		if reason := c.Missing(); reason != "" {
			r.Absent[c.Name] = reason
			p.say("%s is left out: %s", c.Name, reason)
		}
	}
	for round := 1; round <= p.Rounds; round++ {
		for i := range p.Contenders {
			c := p.Contenders[(i+round-1)%len(p.Contenders)]
			if _, absent := r.Absent[c.Name]; absent {
				continue
			}
			samples, err := p.turn(ctx, c, round)
			r.Samples = append(r.Samples, samples...)
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			if err != nil {
				r.Absent[c.Name] = fmt.Sprintf("failed in round %d: %v", round, err)
				p.say("%s: %v", c.Name, err)
			}
		}
	}
	return r, nil
}

// turn takes the measurements of one contender in one round.
func (p Plan) turn(ctx context.Context, c Contender, round int) (samples []Sample, err error) {
	within := p.Within
	if within == 0 {
		within = 30 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	add := func(m Measurement, s Sample) {
		s.Contender, s.Measurement, s.Round = c.Name, m.Name, round
		samples = append(samples, s)
		p.say("round %d/%d  %s", round, p.Rounds, s.line())
	}
	var loads, parks []Measurement
	for _, m := range p.Measurements {
		switch {
		case m.Waiting == 0:
			loads = append(loads, m)
		case round == 1:
			parks = append(parks, m)
		}
	}
	if len(loads) > 0 {
		err := with(ctx, c, func(instance Instance) error { return takeLoads(ctx, instance, loads, add) })
		if err != nil {
			return samples, err
		}
	}
	for _, m := range parks {
		err := with(ctx, c, func(instance Instance) error {
			s, err := measureMemory(ctx, instance, m.Waiting, m.Load.Size)
			if err != nil {
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			add(m, s)
			return nil
		})
		if err != nil {
			return samples, err
		}
	}
	return samples, nil
}

// takeLoads measures loads one after the other in one instance.
func takeLoads(ctx context.Context, instance Instance, loads []Measurement, add func(Measurement, Sample)) error {
	for _, m := range loads {
		warm := m.Load
		warm.Operations = max(m.Load.Operations/10, 1)
		if _, err := instance.Run(ctx, warm); err != nil {
			return fmt.Errorf("%s, warming up: %w", m.Name, err)
		}
		s, err := measureLoad(ctx, instance, m.Load)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		add(m, s)
	}
	return nil
}

// with starts a contender in a fresh directory, uses it and stops it.
func with(ctx context.Context, c Contender, use func(Instance) error) error {
	dir, err := os.MkdirTemp("", "rebound-compare-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	instance, err := c.Start(ctx, dir)
	if err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	return stopped(instance, use(instance))
}

func (p Plan) say(format string, arguments ...any) {
	if p.Progress != nil {
		fmt.Fprintf(p.Progress, format+"\n", arguments...)
	}
}
