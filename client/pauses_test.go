package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/client"
)

func TestPauses_AreMadeListedAndEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	pause, err := r.Pause(ctx(t), "billing:*", client.PauseOptions{For: time.Hour, By: "ann", Note: "a move"})
	if err != nil || pause.Pattern.String() != "billing" || pause.By != "ann" || pause.Note != "a move" || pause.Until.Sub(pause.At) != time.Hour {
		t.Errorf("the pause is %+v with error %v, want billing for an hour", pause, err)
	}
	if _, err := r.Pause(ctx(t), "bill*", client.PauseOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := r.Pauses(ctx(t)); err != nil || len(list) != 2 || list[1] != pause {
		t.Errorf("the pauses are %+v with error %v, want bill* and billing", list, err)
	}
	still, err := r.Resume(ctx(t), "billing", client.PauseOptions{By: "bob"})
	if err != nil || len(still) != 1 || still[0].Pattern.String() != "bill*" {
		t.Errorf("billing is still held by %+v with error %v, want bill*", still, err)
	}
	var refused *client.Error
	if _, err := r.Resume(ctx(t), "shop", client.PauseOptions{}); !errors.As(err, &refused) || refused.Code != "404" {
		t.Errorf("resuming what is not paused gives %v, want an error 404", err)
	}
	if _, err := r.Pause(ctx(t), "bill?", client.PauseOptions{}); err == nil || !strings.Contains(err.Error(), "a pattern is a key") {
		t.Errorf("pausing no pattern gives %v, want an error that says what a pattern is", err)
	}
	other := connected(t, client.Config{Conn: r.nc, Prefix: "other"})
	if _, err := other.Pauses(ctx(t)); err == nil || !strings.Contains(err.Error(), "no instance of the service answers") {
		t.Errorf("with another prefix the pauses are answered with error %v, want that none answers", err)
	}
}
