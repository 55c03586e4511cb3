package manage

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// subdomains is the kind of names that accounts reserve.
const subdomains = "subdomain"

// Bounds and defaults of accounts.
const (
	maxDisplayName     = 255
	maxAccountInFlight = 1 << 16
	maxAccountRate     = 1_000_000
	minDedup           = time.Minute
	defaultDedup       = 24 * time.Hour
)

var (
	subdomainForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) // RFC 1123 label
	accountClasses = []string{postrider.AccountFree, postrider.AccountStandard, postrider.AccountPremium, postrider.AccountInternal}
	accountFields  = []string{"display_name", "subdomain", "time_zone", "unknown_type_policy", "dedup_window", "account_class", "allow_http", "disable_failing_after", "strict_json", "log_retention", "max_in_flight", "rate_limit"}
)

// CreateAccount makes an account.
func (s *Server) CreateAccount(ctx context.Context, req *postriderv1.CreateAccountRequest) (*postriderv1.CreateAccountResponse, error) {
	acc := &postriderv1.Account{}
	if err := copyFields(acc, req.GetAccount(), accountFields); err != nil {
		return nil, err
	}
	if acc.DedupWindow == nil {
		acc.DedupWindow = durationpb.New(min(defaultDedup, s.deps.MaxDedup))
	}
	acc.TimeZone = orDefault(acc.GetTimeZone(), "UTC")
	acc.AccountClass = orDefault(acc.GetAccountClass(), "standard")
	if violations := s.checkAccount(acc); len(violations) > 0 {
		return nil, fault.InvalidFields(violations...)
	}
	number, err := s.deps.Store.NextNumber(ctx, config.BucketAccounts)
	if err != nil {
		return nil, stored(err, "account", "")
	}
	now := timestamppb.New(s.deps.Now())
	acc.Id, acc.Number, acc.CreateTime, acc.UpdateTime = string(postrider.NewAccountID()), number, now, now
	acc.Subdomain = orDefault(acc.GetSubdomain(), fmt.Sprintf("account-%d", number))
	// Reserve the subdomain before the account is stored: a crash in between leaves a name taken
	// by an account that does not exist, never two accounts of one name.
	if err := s.deps.Store.Reserve(ctx, subdomains, acc.GetSubdomain(), acc.GetId()); err != nil {
		return nil, stored(err, "an account with subdomain", acc.GetSubdomain())
	}
	revision, err := s.deps.Store.CreateAccount(ctx, &recordv1.Account{Account: acc})
	if err != nil {
		return nil, stored(err, "account", acc.GetId())
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketAccounts, revision); err != nil {
		return nil, unconfirmed(err)
	}
	return &postriderv1.CreateAccountResponse{Account: shownAccount(acc, revision)}, nil
}

func (s *Server) checkAccount(acc *postriderv1.Account) []fault.Violation {
	var v violations
	v.check(acc.GetDisplayName() != "", "account.display_name", "is required")
	v.check(len(acc.GetDisplayName()) <= maxDisplayName, "account.display_name", "must be at most 255 bytes")
	v.check(acc.GetSubdomain() == "" || subdomainForm.MatchString(acc.GetSubdomain()), "account.subdomain",
		"must be a DNS label of lower-case letters, digits and hyphens, at most 63")
	_, err := time.LoadLocation(acc.GetTimeZone())
	v.check(err == nil && acc.GetTimeZone() != "Local", "account.time_zone", "must be an IANA time zone such as Europe/Berlin")
	window := acc.GetDedupWindow().AsDuration()
	longest := min(defaultDedup, s.deps.MaxDedup)
	v.check(window >= minDedup && window <= longest, "account.dedup_window", fmt.Sprintf("must be from %s to %s", minDedup, longest))
	v.check(slices.Contains(accountClasses, acc.GetAccountClass()), "account.account_class", "must be free, standard, premium or internal")
	if d := acc.GetLogRetention(); d != nil {
		keep := d.AsDuration()
		v.check(keep >= 24*time.Hour && (s.deps.LogRetention == 0 || keep <= s.deps.LogRetention), "account.log_retention",
			"must be a day at least, and no longer than the deployment keeps the log")
	}
	if d := acc.GetDisableFailingAfter(); d != nil {
		v.check(checkFailingLimit(d.AsDuration(), true), "account.disable_failing_after", failingLimitRule+", or 0 for never")
	}
	v.check(acc.GetMaxInFlight() >= 0 && acc.GetMaxInFlight() <= maxAccountInFlight, "account.max_in_flight",
		fmt.Sprintf("must be from 1 to %d, or 0 for no limit", maxAccountInFlight))
	rate := acc.GetRateLimit()
	v.check(rate == 0 || rate >= minRate && rate <= maxAccountRate, "account.rate_limit",
		"must be from 0.1 to 1000000 a second, or 0 for no limit")
	_, known := postriderv1.UnknownTypePolicy_name[int32(acc.GetUnknownTypePolicy())]
	v.check(known, "account.unknown_type_policy", "must be a known policy")
	return v
}

// GetAccount reads an account; an account's key may read its own.
func (s *Server) GetAccount(ctx context.Context, req *postriderv1.GetAccountRequest) (*postriderv1.GetAccountResponse, error) {
	id, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rec, revision, err := s.deps.Store.GetAccount(ctx, string(id))
	if err != nil {
		return nil, stored(err, "account", string(id))
	}
	return &postriderv1.GetAccountResponse{Account: shownAccount(rec.GetAccount(), revision)}, nil
}

// ListAccounts lists accounts, oldest first: ids are ULIDs, so their order is the order of
// creation, which is the order of the numbers.
func (s *Server) ListAccounts(ctx context.Context, req *postriderv1.ListAccountsRequest) (*postriderv1.ListAccountsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), "accounts")
	if err != nil {
		return nil, err
	}
	page, err := s.deps.Store.ListAccounts(ctx, after, size+1)
	if err != nil {
		return nil, stored(err, "accounts", "")
	}
	resp := &postriderv1.ListAccountsResponse{}
	for i, item := range page {
		if i == size {
			resp.NextPageToken = pageToken(page[i-1].Record.GetAccount().GetId(), "accounts")
			break
		}
		resp.Accounts = append(resp.Accounts, shownAccount(item.Record.GetAccount(), item.Revision))
	}
	return resp, nil
}

// UpdateAccount changes the fields of the mask.
func (s *Server) UpdateAccount(ctx context.Context, req *postriderv1.UpdateAccountRequest) (*postriderv1.UpdateAccountResponse, error) {
	id, err := s.account(ctx, req.GetAccount().GetId())
	if err != nil {
		return nil, err
	}
	fields, err := maskFields("account", req.GetAccount(), req.GetUpdateMask(), accountFields)
	if err != nil {
		return nil, err
	}
	for range maxRetries {
		rec, revision, err := s.deps.Store.GetAccount(ctx, string(id))
		if err != nil {
			return nil, stored(err, "account", string(id))
		}
		if err := checkEtag("account", string(id), req.GetAccount().GetEtag(), revision); err != nil {
			return nil, err
		}
		acc := rec.GetAccount()
		before := acc.GetSubdomain()
		if err := copyFields(acc, req.GetAccount(), fields); err != nil {
			return nil, err
		}
		if violations := s.checkAccount(acc); len(violations) > 0 {
			return nil, fault.InvalidFields(violations...)
		}
		acc.Subdomain = orDefault(acc.GetSubdomain(), before)
		if err := s.deps.Store.Reserve(ctx, subdomains, acc.GetSubdomain(), acc.GetId()); err != nil {
			return nil, stored(err, "an account with subdomain", acc.GetSubdomain())
		}
		acc.UpdateTime = timestamppb.New(s.deps.Now())
		revision, err = s.deps.Store.UpdateAccount(ctx, rec, revision)
		if again(err, req.GetAccount().GetEtag()) {
			continue
		}
		if err != nil {
			return nil, stored(err, "account", string(id))
		}
		if before != acc.GetSubdomain() {
			if err := s.deps.Store.Release(ctx, subdomains, before, acc.GetId()); err != nil {
				s.deps.Logger.WarnContext(ctx, "former subdomain stays reserved", "account", acc.GetId(), "error", err)
			}
		}
		if err := s.deps.Barrier.Confirm(ctx, config.BucketAccounts, revision); err != nil {
			return nil, unconfirmed(err)
		}
		return &postriderv1.UpdateAccountResponse{Account: shownAccount(acc, revision)}, nil
	}
	return nil, stored(config.ErrConflict, "account", string(id))
}

func shownAccount(acc *postriderv1.Account, revision uint64) *postriderv1.Account {
	shown := proto.CloneOf(acc)
	shown.Etag = etag(revision)
	return shown
}
