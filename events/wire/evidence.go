package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/clip"
)

const (
	// evidenceFields is the number of fields of one service's evidence.
	evidenceFields = 9
	// thousandths is the unit of trend and variation.
	thousandths = 1000
)

// encodeEvidence returns the value of the header that carries the evidence of services.
func encodeEvidence(all []events.ServiceEvidence) string {
	var b strings.Builder
	for i, e := range all {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(e.Service)
		absent := 0
		if e.Absent {
			absent = 1
		}
		for _, n := range []int64{int64(e.Count), int64(absent), e.Mean.Microseconds(), e.P95.Microseconds(), inThousandths(e.Trend), inThousandths(e.Variation)} {
			b.WriteByte(':')
			b.WriteString(strconv.FormatInt(n, 36))
		}
		b.WriteByte(':')
		b.WriteString(strconv.FormatUint(e.Results, 36))
		b.WriteByte(':')
		for i, age := range e.Ages {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.FormatInt(age, 36))
		}
	}
	return b.String()
}

// inThousandths returns v in thousandths, as far as that is a sensible number.
func inThousandths(v float64) int64 {
	if v != v {
		return 0
	}
	return int64(math.Round(min(max(v, -events.MaxInstanceFigure), events.MaxInstanceFigure) * thousandths))
}

// decodeEvidence reads the header that carries the evidence of services.
func decodeEvidence(value string) ([]events.ServiceEvidence, error) {
	if value == "" {
		return nil, nil
	}
	if n := strings.Count(value, " ") + 1; n > events.MaxEvidence {
		return nil, fmt.Errorf("header %s has %d services, more than the %d allowed", headerEvidence, n, events.MaxEvidence)
	}
	var all []events.ServiceEvidence
	for v := range strings.SplitSeq(value, " ") {
		e, err := decodeOneEvidence(v)
		if err != nil {
			return nil, fmt.Errorf("header %s: %q: %w", headerEvidence, clip.Text(v, 80), err)
		}
		all = append(all, e)
	}
	return all, nil
}

func decodeOneEvidence(v string) (e events.ServiceEvidence, err error) {
	fields := strings.Split(v, ":")
	if len(fields) != evidenceFields {
		return e, fmt.Errorf("it has %d fields, not %d", len(fields), evidenceFields)
	}
	if e.Service = fields[0]; events.CheckName(e.Service) != nil {
		return e, errors.New("it names no service")
	}
	const most = int64(events.MaxInstanceFigure) * thousandths
	var n [6]int64
	for i, limit := range []struct{ least, most int64 }{{0, events.MaxResults}, {0, 1}, {0, most}, {0, most}, {-thousandths, most}, {0, most}} {
		if n[i], err = strconv.ParseInt(fields[i+1], 36, 64); err != nil || n[i] < limit.least || n[i] > limit.most {
			return e, fmt.Errorf("%q is not between %d and %d", clip.Text(fields[i+1], 20), limit.least, limit.most)
		}
	}
	e.Count, e.Absent = int(n[0]), n[1] == 1
	e.Mean, e.P95 = time.Duration(n[2])*time.Microsecond, time.Duration(n[3])*time.Microsecond
	e.Trend, e.Variation = float64(n[4])/thousandths, float64(n[5])/thousandths
	if e.Results, err = strconv.ParseUint(fields[7], 36, 64); err != nil {
		return e, fmt.Errorf("the results %q are no number", clip.Text(fields[7], 20))
	}
	e.Ages, err = decodeAges(fields[8], e.Count)
	return e, err
}

// decodeAges reads the ages of count attempts.
func decodeAges(value string, count int) (ages []int64, err error) {
	dated := len(events.ResultsDated(count))
	if dated == 0 && value == "" {
		return nil, nil
	}
	if n := strings.Count(value, ",") + 1; n != dated {
		return nil, fmt.Errorf("it has %d ages of %d attempts, not %d", n, count, dated)
	}
	for v := range strings.SplitSeq(value, ",") {
		age, err := strconv.ParseInt(v, 36, 64)
		if err != nil || age < 0 || age > int64(events.MaxInstanceFigure) || len(ages) > 0 && age < ages[len(ages)-1] {
			return nil, fmt.Errorf("%q is no age above the one before", clip.Text(v, 20))
		}
		ages = append(ages, age)
	}
	return ages, nil
}
