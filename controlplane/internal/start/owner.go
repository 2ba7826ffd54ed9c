package start

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/wattlenet/wattle/controlplane/internal/auth"
	"github.com/wattlenet/wattle/controlplane/internal/state"
	"github.com/wattlenet/wattle/controlplane/internal/store"
	"github.com/wattlenet/wattle/generated/api"
	"github.com/wattlenet/wattle/generated/sdk"
)

// ownerTokenDays is the longest life that the contract allows.
const ownerTokenDays = 365

// A firstStart tells what the owner has to know. Its secrets are in files.
type firstStart struct {
	profile   profilePlace
	setupKey  string // the file of the reusable setup key
	authority string // the file of the authority's certificate; empty without one
	fresh     bool   // the owner was made now
	newToken  bool   // the profile was written
}

// ensureOwner makes the owner of a new installation with a token, which goes
// into the credentials profile and nowhere else, and keeps the reusable setup
// key in the data folder. On later starts it changes nothing, unless another
// token is wanted.
func (i *Installation) ensureOwner(ctx context.Context) (firstStart, error) {
	place, err := placeProfile(i.config.Credentials, i.folder.path, i.public, i.pin)
	if err != nil {
		return firstStart{}, err
	}
	done := firstStart{profile: place, setupKey: i.folder.file(setupKeyFile)}
	instance, err := i.State.GetInstance(ctx)
	if err != nil {
		return done, fmt.Errorf("ask whether the installation has its owner: %w", err)
	}
	system := auth.Principal{Kind: auth.KindSystem, ID: "system", Name: "system", Channel: auth.ChannelCommand}
	switch {
	case instance.SetupRequired:
		err = i.makeOwner(ctx, system, &done)
	case i.config.NewToken:
		err = i.makeToken(ctx, system, &done)
	}
	if err == nil {
		done.authority, err = i.leaveAuthority(place)
	}
	return done, err
}

func (i *Installation) makeOwner(ctx context.Context, system auth.Principal, done *firstStart) error {
	name, _, _ := strings.Cut(i.config.OwnerEmail, "@")
	fresh, err := i.State.SetUp(ctx, system, state.NewOwner{Email: i.config.OwnerEmail, Name: name, TokenDays: ownerTokenDays})
	if err != nil {
		return fmt.Errorf("make the owner %s: %w", i.config.OwnerEmail, err)
	}
	done.fresh, done.newToken = true, true
	if err := i.folder.write(setupKeyFile, fresh.ReusableSetupKey+"\n"); err != nil {
		return err
	}
	return i.writeProfile(done.profile, fresh.Token)
}

// makeToken makes another token for the oldest owner.
func (i *Installation) makeToken(ctx context.Context, system auth.Principal, done *firstStart) error {
	owner, err := i.owner(ctx, &system)
	if err != nil {
		return fmt.Errorf("find the owner: %w", err)
	}
	token, err := i.State.CreateToken(ctx, system, owner.Id, api.TokenRequest{Name: "made on the server", ExpiresIn: ownerTokenDays})
	if err != nil {
		return fmt.Errorf("make a token for %s: %w", owner.Email, err)
	}
	done.newToken = true
	return i.writeProfile(done.profile, token.PlainToken)
}

// owner returns the oldest owner of the oldest account, and lets system act in
// that account.
func (i *Installation) owner(ctx context.Context, system *auth.Principal) (api.User, error) {
	var accounts []store.Account
	err := i.store.Read(ctx, func(tx *store.Tx) (err error) {
		accounts, err = store.AllAccounts(ctx, tx)
		return err
	})
	if err != nil || len(accounts) == 0 {
		return api.User{}, errors.Join(err, errors.New("there is no account"))
	}
	system.AccountID = accounts[0].ID
	users, _, err := i.State.ListUsers(ctx, *system, api.ListUsersParams{})
	if err != nil {
		return api.User{}, err
	}
	for _, user := range users {
		if user.Role == api.UserRoleOwner {
			return user, nil
		}
	}
	return api.User{}, errors.New("the account has no owner")
}

func (i *Installation) writeProfile(place profilePlace, token string) error {
	profile := sdk.Profile{URL: i.public.String(), Token: token, CAPin: i.pin}
	return profile.Write(place.path)
}
