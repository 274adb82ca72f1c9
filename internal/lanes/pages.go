package lanes

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// pages reads the messages on a subject page by page, the oldest first. It is for one
// goroutine.
type pages struct {
	js      jetstream.JetStream
	stream  string
	subject string

	page []*jetstream.RawStreamMsg // the messages that were read and not taken yet
	from uint64                    // the sequence of the next page
	rest int                       // how many followed the page when it was read
	read time.Time                 // when it was read; zero before the first
}

func (l *Lanes) pages(subject string) pages {
	return pages{js: l.reading, stream: l.streams.Waiting(), subject: subject}
}

// next replaces the page by the next one, of up to n messages. It is empty at the end.
func (p *pages) next(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	var page []*jetstream.RawStreamMsg
	for m, err := range streams.Page(ctx, p.js, p.stream, p.subject, p.from, n) {
		if err != nil {
			return fmt.Errorf("reading %s: %w", p.subject, err)
		}
		page = append(page, m)
	}
	p.page, p.rest, p.read = page, 0, time.Now()
	if len(page) == 0 {
		return nil
	}
	last := page[len(page)-1]
	rest, err := streams.Following(last)
	p.from, p.rest = last.Sequence+1, int(rest)
	return err
}

// advance reads the next page, or at the end the first, because new messages may precede.
func (p *pages) advance(ctx context.Context, n int) error {
	if err := p.next(ctx, n); err != nil || len(p.page) > 0 || p.from == 0 {
		return err
	}
	p.from = 0
	return p.next(ctx, n)
}

// length returns how many messages wait from here on, as far as is known.
func (p *pages) length() int { return len(p.page) + p.rest }

// take returns the next n messages of the page, or the rest of it.
func (p *pages) take(n int) []*jetstream.RawStreamMsg {
	n = min(n, len(p.page))
	taken := p.page[:n]
	p.page = p.page[n:]
	return taken
}

// drop gives up the rest of the page. The next page is read next, and after the end the
// first.
func (p *pages) drop() { p.page, p.read = nil, time.Time{} }
