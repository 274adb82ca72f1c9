package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/streams"
)

// adopted reads which consumers are adopted, none when no service has run.
func (s *session) adopted(ctx context.Context) ([]adoption.Adoption, error) {
	ctx, cancel := context.WithTimeout(ctx, permissionTimeout)
	defer cancel()
	b, err := adoption.Open(ctx, s.js, s.config.Prefix)
	if errors.Is(err, adoption.ErrNoBucket) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b.List(ctx)
}

// adoption checks the adopted consumers.
func (d *diagnosis) adoption(ctx context.Context, s *session, adopted []adoption.Adoption) {
	const check = "adoption"
	var missing []string
	for _, ad := range adopted {
		_, err := adoption.Find(ctx, s.js, ad.Stream, ad.Consumer)
		if err == nil {
			var unheard []string
			unheard, err = adoption.NewCapture(s.js, s.config.Prefix, 0).Missing(ctx, []adoption.Adoption{ad})
			if len(unheard) > 0 {
				err = fmt.Errorf("stream %s does not store what the server says of consumer %s of stream %s", s.streams.Advisories(), ad.Consumer, ad.Stream)
			}
		}
		if err != nil {
			missing = append(missing, oneSentence(err))
		}
	}
	switch {
	case len(missing) > 0:
		d.add(checkWarn, check, joinSome(missing, 5), "make the consumer again, or leave it alone with `rebound adopt remove`; a running service mends the stream within a minute")
	case len(adopted) > 0:
		d.add(checkOK, check, many(len(adopted), "consumer")+" adopted", "")
	}
}

// adoptionPublishes lists what taking over from adopted consumers publishes to.
func (s *session) adoptionPublishes(adopted []adoption.Adoption, made bool) []need {
	api := streams.APIPrefix(s.js)
	bucket := func(name, purpose string) []need {
		stream := "KV_" + name
		needs := []need{
			{"$KV." + name + ".>", purpose},
			{api + "STREAM.INFO." + stream, purpose},
			{api + "STREAM.MSG.GET." + stream, purpose},
		}
		if !made {
			needs = append(needs, need{api + "STREAM.CREATE." + stream, "making streams"})
		}
		return needs
	}
	registered := adoption.BucketName(s.config.Prefix)
	needs := append(bucket(registered, "adopting consumers"),
		need{api + "CONSUMER.CREATE.KV_" + registered + ".>", "following adoptions"},
		need{api + "CONSUMER.DELETE.KV_" + registered + ".*", "following adoptions"})
	if len(adopted) == 0 {
		return needs
	}
	// These streams are made when the first consumer is adopted.
	ledger, advisories := adoption.LedgerName(s.config.Prefix), s.streams.Advisories()
	needs = append(needs, bucket(ledger, "taking messages over")...)
	for _, subject := range []string{
		"DIRECT.GET.KV_" + ledger + ".>",
		"STREAM.NAMES", "STREAM.INFO." + advisories, "STREAM.CREATE." + advisories, "STREAM.UPDATE." + advisories,
		"CONSUMER.CREATE." + advisories + ".>", "CONSUMER.MSG.NEXT." + advisories + ".*",
	} {
		needs = append(needs, need{api + subject, "taking messages over"})
	}
	for _, ad := range adopted {
		purpose := fmt.Sprintf("taking over from consumer %s", ad.Consumer)
		needs = append(needs,
			need{api + "STREAM.INFO." + ad.Stream, purpose},
			need{api + "STREAM.MSG.GET." + ad.Stream, purpose},
			need{api + strings.Join([]string{"CONSUMER.INFO", ad.Stream, ad.Consumer}, "."), purpose})
	}
	return needs
}

// adoptionSubscribes lists what taking over from adopted consumers subscribes to.
func adoptionSubscribes(adopted []adoption.Adoption) []need {
	var needs []need
	for _, subject := range adoption.Advisories(adopted) {
		needs = append(needs, need{subject, "hearing what adopted consumers give up"})
	}
	return needs
}
