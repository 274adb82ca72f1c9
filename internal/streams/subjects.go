package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
)

// Subjects iterates over the subjects of a stream that match filter and have messages, in pages
// from the stream's leader. If messages come and go meanwhile, a subject may be missing or come
// twice.
func Subjects(ctx context.Context, js jetstream.JetStream, stream, filter string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for offset, total := 0, 1; offset < total; {
			page, n, err := subjectsFrom(ctx, js, stream, filter, offset)
			if err != nil {
				yield("", fmt.Errorf("reading the subjects of stream %s: %w", stream, err))
				return
			}
			for subject := range page {
				if !yield(subject, nil) {
					return
				}
			}
			if offset, total = offset+len(page), n; len(page) == 0 {
				return
			}
		}
	}
}

// subjectsFrom reads one page, and returns the total number of subjects.
func subjectsFrom(ctx context.Context, js jetstream.JetStream, stream, filter string, offset int) (page map[string]uint64, total int, err error) {
	request, err := json.Marshal(struct {
		Filter string `json:"subjects_filter"`
		Offset int    `json:"offset,omitempty"`
	}{filter, offset})
	if err != nil {
		return nil, 0, err
	}
	answer, err := js.Conn().RequestWithContext(ctx, APIPrefix(js)+"STREAM.INFO."+stream, request)
	if err != nil {
		return nil, 0, err
	}
	var reply struct {
		Error *jetstream.APIError `json:"error"`
		Total int                 `json:"total"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return nil, 0, fmt.Errorf("decoding the answer: %w", err)
	}
	if reply.Error != nil {
		return nil, 0, reply.Error
	}
	return reply.State.Subjects, reply.Total, nil
}
