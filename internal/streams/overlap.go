package streams

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// Rivals returns the streams that capture subjects of a stream besides it, by subject. A server
// makes two such streams if it is asked for both at the same time, and then stores each message in
// both.
func Rivals(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) (map[string][]string, error) {
	rivals := make(map[string][]string)
	for _, subject := range config.Subjects {
		list := js.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
		for name := range list.Name() {
			if name != config.Name {
				rivals[subject] = append(rivals[subject], name)
			}
		}
		if err := list.Err(); err != nil {
			return nil, fmt.Errorf("looking for streams that capture %s: %w", subject, err)
		}
		slices.Sort(rivals[subject])
	}
	return rivals, nil
}
