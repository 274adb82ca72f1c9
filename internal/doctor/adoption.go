package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"

	"github.com/rebound-mq/rebound/internal/adoption"
)

// adopted reads the adopted consumers; there are none if no service has run.
func adopted(ctx context.Context, s *session.Session) ([]adoption.Adoption, error) {
	ctx, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	b, err := adoption.Open(ctx, s.JS, s.Config.Prefix)
	if errors.Is(err, adoption.ErrNoBucket) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b.List(ctx)
}

// adoption checks the adopted consumers.
func (d *Diagnosis) adoption(ctx context.Context, s *session.Session, adopted []adoption.Adoption) {
	const check = "adoption"
	var missing []string
	for _, ad := range adopted {
		_, err := adoption.Find(ctx, s.JS, ad.Stream, ad.Consumer)
		if err == nil {
			var unheard []string
			unheard, err = adoption.NewCapture(s.JS, s.Config.Prefix, 0).Missing(ctx, []adoption.Adoption{ad})
			if len(unheard) > 0 {
				err = fmt.Errorf("stream %s does not store what the server says of consumer %s of stream %s", s.Streams.Advisories(), ad.Consumer, ad.Stream)
			}
		}
		if err != nil {
			missing = append(missing, wording.Sentence(err))
		}
	}
	switch {
	case len(missing) > 0:
		d.add(Warn, check, wording.First(5, missing), "make the consumer again, or leave it alone with `rebound adopt remove`; a running service mends the stream within a minute")
	case len(adopted) > 0:
		d.add(OK, check, wording.Many(len(adopted), "consumer")+" adopted", "")
	}
}
