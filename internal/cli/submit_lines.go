package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/time/rate"
)

const (
	// submitAtOnce bounds the submissions that are not answered yet.
	submitAtOnce = 256
	// shownRefusals is how many refusals are told with their reason.
	shownRefusals = 20
)

// line is one line of standard input.
type line struct {
	number  int
	text    []byte
	tooLong bool
}

// lineResult tells what came of one line.
type lineResult struct {
	Line  int    `json:"line"`
	ID    string `json:"id,omitempty"`
	Error string `json:"error,omitempty"`
}

// submitLines submits what standard input holds.
func (a *app) submitLines(ctx context.Context, s *session, output string) error {
	// Base64 and escapes make a line longer than what it holds.
	most := int(2*s.nc.MaxPayload()) + 64<<10
	submitter := s.submitter()
	bar := progress(a.stderr, unknownTotal, "submit")
	tally := &tally{app: a, bar: bar, json: output == asJSON}
	err := forEach(ctx, a.lines(ctx, most), submitAtOnce, rate.NewLimiter(rate.Inf, 1), func(ctx context.Context, l line) error {
		id, err := submitter.line(ctx, l, most)
		if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, errOtherPrefix) {
			return err
		}
		_ = bar.Add(1)
		return tally.add(l.number, id, err)
	})
	_ = bar.Finish()
	if submitter.alone.Load() && tally.stored > 0 {
		a.say("no service answers; the operations wait in stream %s until one runs", s.streams.Intake())
	}
	return tally.end(ctx, err)
}

// line submits one line.
func (s *submitter) line(ctx context.Context, l line, most int) (id string, err error) {
	if l.tooLong {
		return "", fmt.Errorf("the line has more than %d bytes", most)
	}
	sub, err := parseSubmission(l.text)
	if err != nil {
		return "", err
	}
	answer, err := s.submit(ctx, sub)
	return answer.ID, err
}

// tally keeps what came of the lines.
type tally struct {
	*app
	bar  *progressbar.ProgressBar
	json bool

	mu      sync.Mutex // guards what follows, and the output
	stored  int
	refused []int
	last    int
}

func (t *tally) add(number int, id string, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last, number)
	result := lineResult{Line: number, ID: id}
	if err == nil {
		t.stored++
	} else {
		t.refused = append(t.refused, number)
		result.Error = oneSentence(err)
		if len(t.refused) <= shownRefusals {
			_ = t.bar.Clear()
			t.say("line %d: %s", number, result.Error)
		}
	}
	if t.json {
		return writeJSON(t.stdout, result)
	}
	return nil
}

// end prints the summary. A refused line is a failure.
func (t *tally) end(ctx context.Context, err error) error {
	t.say("%s submitted, %d refused", many(t.stored, "operation"), len(t.refused))
	var refused error
	if len(t.refused) > 0 {
		refused = fmt.Errorf("refused lines: %s", ranges(t.refused))
	}
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("interrupted after line %d", t.last)
	case err != nil:
		err = fmt.Errorf("after line %d: %w", t.last, err)
	}
	return errors.Join(err, refused)
}

// lines reads standard input line by line, without the empty ones. A read that
// blocks does not hold up the end of ctx.
func (a *app) lines(ctx context.Context, most int) iter.Seq2[line, error] {
	type read struct {
		line
		err error
	}
	return func(yield func(line, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		reads := make(chan read)
		go func() {
			defer close(reads)
			r := bufio.NewReaderSize(a.stdin, 64<<10)
			for number := 1; ; number++ {
				text, tooLong, err := readLine(r, most)
				next := read{line: line{number: number, text: text, tooLong: tooLong}}
				if err != nil && !errors.Is(err, io.EOF) {
					next.err = fmt.Errorf("reading line %d: %w", number, err)
				}
				if next.err != nil || tooLong || strings.TrimSpace(string(text)) != "" {
					select {
					case reads <- next:
					case <-ctx.Done():
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
		for {
			select {
			case next, more := <-reads:
				if !more || !yield(next.line, next.err) {
					return
				}
			case <-ctx.Done():
				yield(line{}, ctx.Err())
				return
			}
		}
	}
}

// readLine reads one line. Of one that is longer than most nothing is kept.
func readLine(r *bufio.Reader, most int) (text []byte, tooLong bool, err error) {
	for {
		part, more, err := r.ReadLine()
		if len(text)+len(part) > most {
			text, tooLong = nil, true
		}
		if !tooLong {
			text = append(text, part...)
		}
		if err != nil || !more {
			return text, tooLong, err
		}
	}
}

// ranges writes numbers in the order of size, neighbours together: 3, 7-9.
func ranges(numbers []int) string {
	sorted := slices.Sorted(slices.Values(numbers))
	var out []string
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		part := strconv.Itoa(sorted[i])
		if j > i {
			part += "-" + strconv.Itoa(sorted[j])
		}
		out = append(out, part)
		i = j + 1
	}
	return strings.Join(out, ", ")
}
