package main

import (
	"testing"

	"github.com/rebound-mq/rebound/handlers"
)

func TestStatus(t *testing.T) {
	c := newCLI(t)
	c.fails(exitFailure, "no service answers", "status")
	c.bury(2, "billing", "charge")
	c.service()
	status := jsonLines[handlers.Status](t, c.ok("status", "--output", "json"))
	if len(status) != 1 || status[0].Dead != 2 || status[0].Instance == "" {
		t.Errorf("%+v", status)
	}
	if table := c.ok("status"); table == "" {
		t.Error("the table is empty")
	}
	c.fails(exitUsage, `"yaml" is none of table, json`, "status", "--output", "yaml")
	c.fails(exitUsage, "takes no arguments", "status", "now")
}
