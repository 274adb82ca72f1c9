package breaker_test

import (
	"slices"
	"testing"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
)

var memory = storetest.Config{Open: func(_ testing.TB, n int) []breaker.Store {
	return slices.Repeat([]breaker.Store{breaker.NewMemory()}, n)
}}

func TestMemory_DoesWhatEveryStoreMust(t *testing.T) { storetest.Run(t, memory) }

func BenchmarkMemory_Change(b *testing.B) { storetest.BenchmarkChange(b, memory) }
