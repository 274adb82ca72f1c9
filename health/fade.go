package health

import (
	"math"
	"time"
)

const (
	// ReportFresh is how long a reported figure counts in full, so the longest interval between
	// reports that keeps it there.
	ReportFresh = time.Minute
	// ReportHalfLife is the time in which an older figure loses half its weight.
	ReportHalfLife = time.Minute
	// SampleHalfLife is the time in which a measurement loses half its weight in a decision.
	SampleHalfLife = 5 * time.Minute
	// ReportMaxAge is the age at which a reported figure is forgotten.
	ReportMaxAge = 10 * time.Minute
)

// ReportWeight returns the weight of a reported figure: 1 up to the age [ReportFresh], then
// 2^(−(age − ReportFresh) / ReportHalfLife), and 0 from [ReportMaxAge]. The value of a figure is
// multiplied by its weight, so one that is no longer reported fades.
func ReportWeight(age time.Duration) float64 {
	switch {
	case age <= ReportFresh:
		return 1
	case age >= ReportMaxAge:
		return 0
	}
	return math.Exp2(-float64(age-ReportFresh) / float64(ReportHalfLife))
}

// freshness is the weight of measurements in a decision, 2^(−age / SampleHalfLife).
func freshness(age time.Duration) float64 {
	if age <= 0 {
		return 1
	}
	return math.Exp2(-float64(age) / float64(SampleHalfLife))
}
