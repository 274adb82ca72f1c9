package submit

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

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/parallel"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/time/rate"
)

const (
	// submitAtOnce is how many submissions may await an answer at once.
	submitAtOnce = 256
	// shownRefusals is how many refusals are shown with their reason.
	shownRefusals = 20
)

// line is one line of standard input.
type line struct {
	number  int
	text    []byte
	tooLong bool
}

// lineResult is the result of one line.
type lineResult struct {
	Line  int    `json:"line"`
	ID    string `json:"id,omitempty"`
	Error string `json:"error,omitempty"`
}

// runLines submits the lines of standard input.
func (o *options) runLines(ctx context.Context, s *session.Session) error {
	// Base64 and escapes make a line longer than its contents.
	most := int(2*s.NC.MaxPayload()) + 64<<10
	submitter := newSubmitter(s)
	bar := terminal.Progress(o.Stderr, terminal.UnknownTotal, "submit")
	tally := &tally{App: o.App, bar: bar, json: o.output.JSON()}
	err := parallel.Each(ctx, lines(ctx, o.Stdin, most), submitAtOnce, rate.NewLimiter(rate.Inf, 1), func(ctx context.Context, l line) error {
		id, err := submitter.line(ctx, l, most)
		if errors.Is(err, nats.ErrConnectionClosed) {
			return err
		}
		_ = bar.Add(1)
		return tally.add(l.number, id, err)
	})
	_ = bar.Finish()
	if submitter.alone.Load() && tally.stored > 0 {
		o.Say("%s; the operations wait in stream %s until one runs", session.NoService, s.Streams.Intake())
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

// tally keeps the results of the lines.
type tally struct {
	*command.App
	bar  *progressbar.ProgressBar
	json bool

	mu      sync.Mutex // guards the fields below, and the output
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
		result.Error = wording.Sentence(err)
		if len(t.refused) <= shownRefusals {
			_ = t.bar.Clear()
			t.Say("line %d: %s", number, result.Error)
		}
	}
	if t.json {
		return terminal.WriteJSON(t.Stdout, result)
	}
	return nil
}

// end prints the summary. A refused line is a failure.
func (t *tally) end(ctx context.Context, err error) error {
	t.Say("%s submitted, %d refused", wording.Many(t.stored, "operation"), len(t.refused))
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

// lines yields the lines that are not empty. It ends with ctx even if a read blocks.
func lines(ctx context.Context, from io.Reader, most int) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		reads := make(chan lineRead)
		go readLines(ctx, from, most, reads)
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

type lineRead struct {
	line
	err error
}

// readLines sends lines until there are no more or ctx ends, then closes the channel.
func readLines(ctx context.Context, from io.Reader, most int, to chan<- lineRead) {
	defer close(to)
	r := bufio.NewReaderSize(from, 64<<10)
	for number := 1; ; number++ {
		text, tooLong, err := readLine(r, most)
		next := lineRead{line: line{number: number, text: text, tooLong: tooLong}}
		if err != nil && !errors.Is(err, io.EOF) {
			next.err = fmt.Errorf("reading line %d: %w", number, err)
		}
		if !next.isEmpty() {
			select {
			case to <- next:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *lineRead) isEmpty() bool {
	return l.err == nil && !l.tooLong && strings.TrimSpace(string(l.text)) == ""
}

// readLine reads one line. It discards a line longer than most.
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

// ranges writes sorted numbers, with neighbours as ranges: 3, 7-9.
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
