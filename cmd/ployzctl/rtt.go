package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ployz/ployz/node/api"
)

func (a *app) machineRTT() *cobra.Command {
	return &cobra.Command{
		Use:   "rtt [MACHINE...]",
		Short: "Have machines measure the round trips between them",
		Long: `Have machines measure the round trips to all others over the overlay, now: every machine, or those that are
named. Nothing is stored. What cannot be measured is named, with the reason.`,
		Example: "  ployzctl machine rtt m1 m2",
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
			return a.completeMachines(cmd, nil, prefix) // there may be more than one
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			r, err := c.RoundTrips(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.answer(r, func() error { return a.showRoundTrips(r) })
		},
	}
}

func (a *app) showRoundTrips(r api.RoundTrips) error {
	var rows [][]string
	for _, t := range r.Trips {
		path := "direct"
		if t.Via != "" {
			path = "via " + t.Via
		}
		rows = append(rows, []string{
			t.From, t.To, roundTripTime(t.Median), roundTripTime(t.Min), roundTripTime(t.Max), loss(t), path, orDash(t.Endpoint), ago(t.Handshake),
		})
	}
	if err := a.table("FROM TO RTT MIN MAX LOSS PATH ENDPOINT HANDSHAKE", rows); err != nil {
		return err
	}
	for _, t := range r.Trips {
		if t.Error != nil {
			fmt.Fprintf(a.out, "%s → %s: %s\n", t.From, t.To, t.Error.Message)
		}
	}
	for _, u := range r.Unasked {
		fmt.Fprintf(a.out, "%s could not be asked: %s (%s)\n", u.Machine, u.Error.Message, u.Error.Code)
	}
	return nil
}

func roundTripTime(d api.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond))
}

func loss(t api.RoundTrip) string {
	if t.Sent == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", 100*(t.Sent-t.Received)/t.Sent)
}
