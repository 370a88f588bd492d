package operation

import (
	"context"

	"github.com/ployz/ployz/node/api"
)

type tellKey struct{}

// telling gives whoever carries a commit out the audience of its run.
func telling(ctx context.Context, show func(api.Event)) context.Context {
	return context.WithValue(ctx, tellKey{}, show)
}

// Tell tells the audience something in a sentence while a commit is carried out that takes its time, as Act.Note does
// in a step. Anywhere else it does nothing.
func Tell(ctx context.Context, message string) {
	if show, ok := ctx.Value(tellKey{}).(func(api.Event)); ok {
		show(api.Event{Type: api.EventNote, Message: message})
	}
}
