package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rebound-mq/rebound/events"
)

// view shows a run in progress. It is safe for concurrent use.
type view interface {
	// show updates the view.
	show(frame)
	// tell shows what happened to an operation.
	tell(happening)
	// close shows the final state and restores the terminal.
	close(frame)
}

// refresh is how often a view is updated.
const refresh = 100 * time.Millisecond

// title is what does not change during a run.
type title struct {
	source, url string
	seed        uint64
	goal        int
	script      script
	// policy is what differs from the built-in policy.
	policy string
}

// String returns the title in one line.
func (t title) String() string {
	operations := "operations until interrupted"
	if t.goal > 0 {
		operations = fmt.Sprintf("%d operations", t.goal)
	}
	return fmt.Sprintf("Rebound demo: %s from %s, seed %d, %s", operations, t.source, t.seed, t.url)
}

// policyLine says by which policy operations are retried.
func (t title) policyLine() string {
	return "Policy: the built-in default, but " + t.policy
}

// frame is the state of a run.
type frame struct {
	// at is the time since the run began, now the time of day.
	at       time.Duration
	now      time.Time
	counts   counts
	standing standing
	mood     mood
	// left is the remaining duration of the mood, negative if unknown.
	left time.Duration
}

// submitted returns the number of submitted operations, with the goal if there is one.
func (f frame) submitted(goal int) string {
	if goal == 0 {
		return fmt.Sprint(f.counts.Submitted)
	}
	return fmt.Sprintf("%d/%d", f.counts.Submitted, goal)
}

// split divides the operations without an outcome into those that are held, those in flight and
// those that wait for their time.
func (f frame) split() (held, inFlight, waiting int) {
	held, inFlight = f.standing.sums()
	// The sums are a little older than the counts.
	held = min(held, f.counts.Open)
	inFlight = min(inFlight, f.counts.Open-held)
	return held, inFlight, f.counts.Open - held - inFlight
}

// happening is something that happened to an operation or a breaker.
type happening struct {
	at time.Duration
	// name is the event's name, such as retryScheduled.
	name string
	// event is the operation type or the key, text a description.
	event, text string
	// sort groups similar happenings.
	sort string
}

// scheduledHappening describes a decision.
func scheduledHappening(at time.Duration, e events.Scheduled) happening {
	return happening{
		at: at, name: events.RetryScheduled, event: e.Operation, sort: e.Error.Code,
		text: fmt.Sprintf("attempt %d failed (%s); again in %s, %s", e.Attempt, e.Error.Code, milliseconds(e.DelayMs), e.Strategy),
	}
}

// endedHappening describes an outcome.
func endedHappening(at time.Duration, e events.Outcome) happening {
	h := happening{at: at, name: e.Outcome, event: e.Operation}
	if e.Outcome == events.RetrySuccess {
		h.sort = fmt.Sprint(e.Attempts)
		h.text = fmt.Sprintf("succeeded at attempt %d, %s after its first failure", e.Attempts, milliseconds(e.ElapsedMs))
		return h
	}
	var f events.Failure
	if e.Error != nil {
		f = *e.Error
	}
	h.sort = string(e.Reason) + " " + f.Code
	h.text = fmt.Sprintf("dead letter after %d attempts, %s (%s)", e.Attempts, e.Reason, strings.TrimSpace(f.Code+" "+f.Message))
	if e.Attempts == 1 {
		h.text = strings.Replace(h.text, "1 attempts", "1 attempt", 1)
	}
	return h
}

// lines shows a run as plain lines: once a second the counts, and what is waited for if anything is
// held or nothing has changed; each change of the target, and the first happening of each sort.
type lines struct {
	w     io.Writer
	title title

	mu    sync.Mutex // guards the fields below and keeps lines whole
	mood  mood
	next  time.Duration   // when to show the counts again
	shown map[string]bool // sorts of happenings already shown
	said  string          // the counts shown last
}

func newLines(w io.Writer, t title) *lines {
	fmt.Fprintln(w, t)
	fmt.Fprintln(w, t.policyLine())
	return &lines{w: w, title: t, shown: make(map[string]bool)}
}

func (l *lines) show(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.mood != l.mood {
		l.mood = f.mood
		fmt.Fprintf(l.w, "%7s  the target is %s: %s\n", clock(f.at), f.mood, means[f.mood])
	}
	if f.at >= l.next {
		l.next = f.at.Truncate(time.Second) + time.Second
		l.count(f)
	}
}

func (l *lines) count(f frame) {
	c := f.counts
	held, inFlight, waiting := f.split()
	counts := fmt.Sprintf("submitted %s  waiting %d  held %d  in flight %d  succeeded %d  failed %d  redeliveries %d",
		f.submitted(l.title.goal), waiting, held, inFlight, c.Success, c.Failed, c.Redeliveries)
	fmt.Fprintf(l.w, "%7s  %s\n", clock(f.at), counts)
	if held > 0 || counts == l.said {
		fmt.Fprintf(l.w, "%7s    %s\n", "", f.why())
	}
	l.said = counts
}

func (l *lines) tell(h happening) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sort := h.name + " " + h.sort; !l.shown[sort] {
		l.shown[sort] = true
		fmt.Fprintf(l.w, "%7s    %s: %s\n", clock(h.at), h.event, h.text)
	}
}

func (l *lines) close(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(f)
	fmt.Fprintln(l.w)
}

func clock(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// screen shows a run on a terminal, redrawn in place.
type screen struct {
	w     io.Writer
	title title
	// size returns the width and the height of the terminal.
	size  func() (width, height int)
	color bool

	mu       sync.Mutex  // guards the fields below
	last     []happening // the most recent of operations, newest last
	breakers []happening // the same of breakers
	drawn    int         // number of lines last drawn
}

// keptHappenings bounds the happenings of operations on a screen, and those of breakers.
const keptHappenings = 6

func newScreen(w io.Writer, t title, size func() (int, int), color bool) *screen {
	fmt.Fprint(w, hideCursor)
	return &screen{w: w, title: t, size: size, color: color}
}

func (s *screen) tell(h happening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := &s.last
	if h.name == events.BreakerChanged {
		of = &s.breakers
	}
	*of = append(*of, h)
	if len(*of) > keptHappenings {
		*of = (*of)[1:]
	}
}

func (s *screen) show(f frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	width, height := s.size()
	rows := s.rows(f, width)
	rows = rows[:min(len(rows), max(height-1, 1))]
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r")
	for _, r := range rows {
		b.WriteString(r.render(width-1, s.color))
		b.WriteString(clearLine + "\n")
	}
	b.WriteString(clearBelow)
	s.drawn = len(rows)
	_, _ = io.WriteString(s.w, b.String())
}

func (s *screen) close(f frame) {
	s.show(f)
	fmt.Fprint(s.w, showCursor, "\n")
}

// rows draws a frame.
func (s *screen) rows(f frame, width int) []row {
	c := f.counts
	held, inFlight, waiting := f.split()
	out := []row{{{bold, s.title.String()}}, {{dim, s.title.policyLine()}}, s.moods(f), {}}
	out = append(out,
		row{{plain, fmt.Sprintf("submitted %s   redeliveries %d   at the first try %d   %s",
			f.submitted(s.title.goal), c.Redeliveries, c.First, clock(f.at))}},
		row{{bold, f.why()}},
		bar("succeeded", green, c.Success, c.Submitted, width),
		bar("failed", red, c.Failed, c.Submitted, width),
		bar("in flight", cyan, inFlight, c.Submitted, width),
		bar("held", magenta, held, c.Submitted, width),
		bar("waiting", yellow, waiting, c.Submitted, width))
	for _, of := range [][]happening{s.breakers, s.last} {
		out = append(out, row{})
		for _, h := range of {
			out = append(out, row{
				{dim, fmt.Sprintf("%7s  ", clock(h.at))}, {plain, fmt.Sprintf("%-14s  ", h.event)}, {styles[h.name], h.text},
			})
		}
	}
	return out
}

var styles = map[string]style{
	events.RetrySuccess: green, events.RetryFailed: red, events.RetryScheduled: yellow, events.BreakerChanged: magenta,
}

// moods draws the script with the current mood.
func (s *screen) moods(f frame) row {
	out := row{{plain, "target: "}}
	for i, p := range s.title.script {
		if i > 0 {
			out = append(out, segment{dim, " > "})
		}
		switch {
		case p.mood != f.mood:
			out = append(out, segment{dim, string(p.mood)})
		case f.left < 0:
			out = append(out, segment{bold, "[" + string(p.mood) + "]"})
		default:
			out = append(out, segment{bold, fmt.Sprintf("[%s %s]", p.mood, clock(f.left))})
		}
	}
	return out
}

// bar draws n of of as a bar.
func bar(name string, st style, n, of, width int) row {
	cells := max(min(width-30, 60), 10)
	filled := 0
	if n > 0 {
		filled = max(cells*n/max(of, 1), 1)
	}
	return row{
		{plain, fmt.Sprintf("%-10s ", name)},
		{st, strings.Repeat("█", min(filled, cells))},
		{dim, strings.Repeat("░", cells-min(filled, cells))},
		{plain, fmt.Sprintf(" %d  %d%%", n, 100*n/max(of, 1))},
	}
}

// Control sequences of a terminal, from ECMA-48.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// style is the look of text, as the parameter of a control sequence.
type style string

const (
	plain   style = ""
	bold    style = "1"
	dim     style = "2"
	red     style = "31"
	green   style = "32"
	yellow  style = "33"
	magenta style = "35"
	cyan    style = "36"
)

// segment is text of one style.
type segment struct {
	style style
	text  string
}

// row is one line of a screen.
type row []segment

// render returns the row, cut to the width.
func (r row) render(width int, color bool) string {
	var b strings.Builder
	for _, s := range r {
		text := []rune(printable(s.text))
		text = text[:min(len(text), max(width, 0))]
		width -= len(text)
		if !color || s.style == plain || len(text) == 0 {
			b.WriteString(string(text))
			continue
		}
		fmt.Fprintf(&b, "\x1b[%sm%s\x1b[0m", s.style, string(text))
	}
	return b.String()
}

// printable replaces characters that could control the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}
