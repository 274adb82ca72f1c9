package health

import (
	"math"
	"time"
)

const (
	// ReportFresh is how long a reported figure counts in full. A service that
	// reports at least that often counts in full all the time.
	ReportFresh = time.Minute
	// ReportHalfLife is the time in which an older figure loses half its weight.
	ReportHalfLife = time.Minute
	// ReportMaxAge is the age from which a reported figure is forgotten.
	ReportMaxAge = 10 * time.Minute
	// SampleHalfLife is the time in which what was measured loses half its
	// weight.
	SampleHalfLife = 5 * time.Minute
)

// ReportWeight is how much a reported figure of an age counts: 1 up to
// [ReportFresh], 2^(−(age − ReportFresh) / ReportHalfLife) after that, and 0
// from [ReportMaxAge]. A figure counts with its value times this weight, so one
// that is reported no more fades out.
func ReportWeight(age time.Duration) float64 {
	switch {
	case age <= ReportFresh:
		return 1
	case age >= ReportMaxAge:
		return 0
	}
	return math.Exp2(-float64(age-ReportFresh) / float64(ReportHalfLife))
}

// freshness is 2^(−age / SampleHalfLife): how much what was measured counts.
func freshness(age time.Duration) float64 {
	if age <= 0 {
		return 1
	}
	return math.Exp2(-float64(age) / float64(SampleHalfLife))
}
