package schemas_test

import (
	"errors"
	"fmt"

	"github.com/rebound-mq/rebound/schemas"
)

// A consumer checks an outcome before it reads it.
func ExampleValidate() {
	err := schemas.Validate("rebound.retrySuccess.v1", []byte(`{
		"id": "5e5a7a1c1d9d4d0f8f4b1f6c2a3b4c5d",
		"eventId": "payment-4711",
		"source": "/billing/eu",
		"service": "billing",
		"operation": "charge",
		"priority": "urgent",
		"outcome": "retrySuccess",
		"attempts": 3,
		"durationMs": 41.207,
		"firstFailure": "2026-03-01T12:00:00Z",
		"endedAt": "2026-03-01T12:00:04.318Z"
	}`))
	fmt.Println(err)

	var invalid *schemas.InvalidError
	if errors.As(err, &invalid) {
		for _, issue := range invalid.Issues {
			fmt.Println(issue.Path)
		}
	}
	// Output:
	// not a valid rebound.retrySuccess.v1: /elapsedMs is missing; /priority is "urgent", none of "critical", "high", "normal", "low"
	// /elapsedMs
	// /priority
}

// A name that is nearly right is answered with the one that was meant.
func ExampleGet() {
	_, err := schemas.Get("retryFialed")
	var unknown *schemas.UnknownError
	if errors.As(err, &unknown) {
		fmt.Println(unknown.Nearest)
	}
	// Output: rebound.retryFailed.v1
}
