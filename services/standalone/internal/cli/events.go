package cli

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func (p *program) eventsCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "events",
		Aliases: []string{"event"},
		Short:   "See what was published",
		Long:    "See what was published and routed. \"deliveries show\" tells everything that happened to one event.",
	}, p.eventsList())
}

func (p *program) eventsList() *cobra.Command {
	var req postriderv1.ListRecordedEventsRequest
	var since, until string
	var limit int
	c := &cobra.Command{
		Use:   "list",
		Short: "List events, the last accepted first",
		Example: `  postrider events list
  postrider events list --type release.live --since -1h
  postrider events list --unmatched --limit 0 -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&req.EventType, "type", "", "of this event type")
	f.BoolVar(&req.UnmatchedOnly, "unmatched", false, "only those that no webhook wanted")
	f.StringVar(&since, "since", "", "accepted at or after, such as -1h or 2026-11-21T18:00:00Z")
	f.StringVar(&until, "until", "", "accepted before, such as -5m or 2026-11-21T18:00:00Z")
	limitFlag(c, &limit)
	c.RunE = p.remote(func(ctx context.Context, cl *client, _ []string) (err error) {
		req.AccountId = cl.account
		if req.StartTime, err = moment("--since", since, p.now()); err != nil {
			return err
		}
		if req.EndTime, err = moment("--until", until, p.now()); err != nil {
			return err
		}
		list, next, err := pages(limit, func(size int32, token string) ([]*postriderv1.RecordedEvent, string, error) {
			req.PageSize, req.PageToken = size, token
			resp, err := cl.log.ListRecordedEvents(ctx, &req)
			return resp.GetEvents(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		defer p.more(len(list), next)
		return p.show(&postriderv1.ListRecordedEventsResponse{Events: list, NextPageToken: next}, func(t *table) {
			t.row("ID", "TYPE", "MATCHED", "NOT MATCHED", "KEY", "ACCEPTED", "EXPUNGED")
			for _, e := range list {
				key := e.GetIdempotencyKey()
				if key == "" {
					key = e.GetGivenId()
				}
				t.row(e.GetId(), e.GetType(), strconv.Itoa(int(e.GetMatchedCount())), strconv.Itoa(int(e.GetUnmatchedCount())), cell(key),
					stamp(e.GetAcceptTime()), cell(stamp(e.GetExpungeTime())))
			}
		})
	})
	return c
}
