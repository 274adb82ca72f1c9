package handlers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Dial implements [nats.CustomDialer]: it connects a client to the world.
func (w *world) Dial(string, string) (net.Conn, error) {
	client, server := net.Pipe()
	l := &link{w: w, conn: server, subs: make(map[string]string)}
	w.others.Go(l.serve)
	return client, nil
}

// link is a client's connection for reading: as much of the NATS protocol as requests
// need.
type link struct {
	w    *world
	conn net.Conn

	mu   sync.Mutex        // guards the fields below, and writing
	subs map[string]string // subjects by subscription
}

func (l *link) send(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.conn, text)
}

func (l *link) serve() {
	defer l.conn.Close()
	l.send(`INFO {"server_id":"model","version":"2.14.0","headers":true,"jetstream":true,"proto":1,"max_payload":1048576}` + "\r\n")
	in := bufio.NewReader(l.conn)
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			return
		}
		word := strings.Fields(text)
		switch strings.ToUpper(word[0]) {
		case "PING":
			// The pipe has no buffer, and the client may be writing.
			l.w.others.Go(func() { l.send("PONG\r\n") })
		case "SUB":
			l.mu.Lock()
			l.subs[word[len(word)-1]] = word[1]
			l.mu.Unlock()
		case "PUB":
			size, _ := strconv.Atoi(word[len(word)-1])
			body := make([]byte, size+2)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			l.w.others.Go(func() { l.answer(word[1], word[2], body[:size]) })
		}
	}
}

// reply sends a message to whoever waits for it.
func (l *link) reply(inbox string, h nats.Header, data []byte) {
	head := "NATS/1.0"
	if status := h.Get("Status"); status != "" {
		head += " " + status + " " + h.Get("Description")
	}
	head += "\r\n"
	for k, values := range h {
		if k == "Status" || k == "Description" {
			continue
		}
		for _, v := range values {
			head += k + ": " + v + "\r\n"
		}
	}
	head += "\r\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	for sid, subject := range l.subs {
		if prefix, wild := strings.CutSuffix(subject, "*"); subject == inbox || wild && strings.HasPrefix(inbox, prefix) {
			_, _ = fmt.Fprintf(l.conn, "HMSG %s %s %d %d\r\n%s%s\r\n", inbox, sid, len(head), len(head)+len(data), head, data)
		}
	}
}

// answer answers a read, sometimes not at all.
func (l *link) answer(subject, inbox string, request []byte) {
	r := l.w.roll("read", subject+string(request))
	time.Sleep(spread(r, 100*time.Microsecond, 5*time.Millisecond))
	tokens := strings.Split(subject, ".")
	s := l.w.stream(tokens[len(tokens)-1])
	if !l.w.isHonest() {
		if _, away := within(s.away, time.Now()); away || chance(r, 0.02) {
			return
		}
	}
	if strings.Contains(subject, ".DIRECT.GET.") {
		l.batch(s, inbox, request, r)
		return
	}
	l.get(s, inbox, request)
}

// selection says which message STREAM.MSG.GET is about.
type selection struct {
	Sequence uint64 `json:"seq"`
	Last     string `json:"last_by_subj"`
	Next     string `json:"next_by_subj"`
}

// selected returns the message that stands at a time, nil if there is none.
func (s *modelStream) selected(ask selection, at time.Time) *storedMsg {
	if ask.Last != "" {
		return s.lastOn(ask.Last, at)
	}
	if ask.Next != "" {
		for _, m := range s.matching(ask.Next, at) {
			if m.sequence >= ask.Sequence {
				return m
			}
		}
		return nil
	}
	if n := ask.Sequence; n >= 1 && n <= uint64(len(s.all)) && s.all[n-1].stands(at) {
		return s.all[n-1]
	}
	return nil
}

// get answers STREAM.MSG.GET.
func (l *link) get(s *modelStream, inbox string, request []byte) {
	var ask selection
	if err := json.Unmarshal(request, &ask); err != nil {
		panic(err)
	}
	at := l.w.seen(s)
	l.w.mu.Lock()
	m := s.selected(ask, at)
	type message struct {
		Subject  string    `json:"subject"`
		Sequence uint64    `json:"seq"`
		Header   []byte    `json:"hdrs,omitempty"`
		Data     []byte    `json:"data,omitempty"`
		Time     time.Time `json:"time"`
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error,omitempty"`
		Message *message            `json:"message,omitempty"`
	}
	if m == nil {
		answer.Error = &jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeMessageNotFound, Description: "no message found"}
	} else {
		answer.Message = &message{m.subject, m.sequence, encodeHeader(m.header), m.data, m.at}
		l.w.noteLocked("read      %s: %d %s, as of %.3f", short(ask.Last+ask.Next), m.sequence, short(m.subject), at.Sub(l.w.began).Seconds())
	}
	if m == nil {
		l.w.noteLocked("read      %s %d: nothing, as of %.3f", short(ask.Last+ask.Next), ask.Sequence, at.Sub(l.w.began).Seconds())
	}
	l.w.mu.Unlock()
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	l.reply(inbox, nil, text)
}

func encodeHeader(h nats.Header) []byte {
	text := "NATS/1.0\r\n"
	for k, values := range h {
		for _, v := range values {
			text += k + ": " + v + "\r\n"
		}
	}
	return []byte(text + "\r\n")
}

// batch answers DIRECT.GET, which any replica does.
func (l *link) batch(s *modelStream, inbox string, request []byte, r *rand.Rand) {
	var ask struct {
		Sequence uint64     `json:"seq"`
		Subject  string     `json:"next_by_subj"`
		Batch    int        `json:"batch"`
		Start    *time.Time `json:"start_time"`
	}
	if err := json.Unmarshal(request, &ask); err != nil {
		panic(err)
	}
	at := l.w.seenBy(s, r)
	l.w.mu.Lock()
	var found []*storedMsg
	for _, m := range s.matching(ask.Subject, at) {
		if m.sequence >= ask.Sequence && (ask.Start == nil || !m.at.Before(*ask.Start)) {
			found = append(found, m)
		}
	}
	l.w.mu.Unlock()
	if len(found) == 0 {
		l.reply(inbox, nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}, nil)
		return
	}
	for i, m := range found[:min(len(found), max(ask.Batch, 1))] {
		h := cloneHeader(m.header)
		h[jetstream.StreamHeader], h[jetstream.SubjectHeader] = []string{s.name}, []string{m.subject}
		h[jetstream.SequenceHeader] = []string{strconv.FormatUint(m.sequence, 10)}
		h[jetstream.TimeStampHeaer] = []string{m.at.UTC().Format(time.RFC3339Nano)}
		h["Nats-Num-Pending"] = []string{strconv.Itoa(len(found) - i - 1)}
		l.reply(inbox, h, m.data)
	}
	l.reply(inbox, nats.Header{"Status": {"204"}, "Description": {"EOB"}}, nil)
}
