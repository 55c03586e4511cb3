package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// What a receiver answered was shown; these are the exit codes of answers that are no.
var (
	errUnverified = &codeError{exitFailure, errors.New("the receiver did not tell its token from another")}
	errNoConsent  = &codeError{exitFailure, errors.New("the receiver did not consent")}
)

func (p *program) webhooksVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify WEBHOOK",
		Short: "Ask a receiver to tell its token from another (profile labelst)",
		Long: `Ask the receiver of a webhook of the profile labelst to tell its token from another: it must answer
200 to its own and 401 to the other. A webhook that requires this is active once it has. Exit code 1
says that it has not.`,
		Example: "  postrider webhooks verify wh_01HF7YAT00ZZZZZZZZZZZZZZZZ",
		Args:    cobra.ExactArgs(1),
	}
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.VerifyWebhook(ctx, &postriderv1.VerifyWebhookRequest{AccountId: cl.account, WebhookId: args[0]})
		if err != nil {
			return err
		}
		if err := p.showWebhook(resp.GetWebhook()); err != nil {
			return err
		}
		if !resp.GetWebhook().GetVerification().GetValid() {
			return errUnverified
		}
		return nil
	})
	return c
}

func (p *program) webhooksHandshake() *cobra.Command {
	var rate int32
	c := &cobra.Command{
		Use:   "handshake WEBHOOK",
		Short: "Ask a receiver for its consent (profile cloudevents)",
		Long: `Ask the receiver of a webhook of the profile cloudevents for its consent to deliveries, as HTTP 1.1
Web Hooks for Event Delivery has it. One that does not consent at once may do so later, through the
callback that it is given. Exit code 1 says that it has not.`,
		Example: "  postrider webhooks handshake wh_01HF7YAT00ZZZZZZZZZZZZZZZZ --rate 120",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().Int32Var(&rate, "rate", 0, "deliveries a minute to ask for; default: none is asked for")
	c.RunE = p.remote(func(ctx context.Context, cl *client, args []string) error {
		resp, err := cl.webhooks.HandshakeWebhook(ctx, &postriderv1.HandshakeWebhookRequest{AccountId: cl.account, WebhookId: args[0], Rate: rate})
		if err != nil {
			return err
		}
		if err := p.showWebhook(resp.GetWebhook()); err != nil {
			return err
		}
		if !resp.GetWebhook().GetHandshake().GetConsented() {
			return errNoConsent
		}
		return nil
	})
	return c
}

// outcome is what a receiver answered, in a word or with what was wrong.
func outcome(yes bool, detail string) string {
	if yes {
		return "yes"
	}
	return "no: " + detail
}
