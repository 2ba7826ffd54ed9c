package state

import (
	"context"

	"github.com/oapi-codegen/nullable"

	"github.com/wattlenet/wattle/controlplane/internal/cloudinit"
	"github.com/wattlenet/wattle/controlplane/internal/problem"
	"github.com/wattlenet/wattle/generated/api"
)

// RenderCloudInit renders the user data of a new machine. It keeps nothing.
func (s *State) RenderCloudInit(_ context.Context, req api.CloudInitRequest) (answer api.CloudInit, err error) {
	req.ApplyDefaults()
	config := cloudinit.Config{
		ManagementURL: s.cfg.PublicURL, CAPin: s.cfg.CAPin, Install: string(*req.Install), AgentURL: given(req.AgentUrl), AgentSHA256: given(req.AgentSha256),
		SetupKey: given(req.SetupKey), SetupKeyFile: given(req.SetupKeyFile), Hostname: given(req.Hostname),
	}
	if err := faults(req.Validate(), checkInstall(config)...); err != nil {
		return answer, err
	}
	text, err := cloudinit.Render(config)
	if err != nil {
		return answer, problem.Internal(err)
	}
	return api.CloudInit{
		Install: api.CloudInitInstall(config.Install), AgentUrl: orNull(config.AgentURL), AgentSha256: orNull(config.AgentSHA256),
		SetupKeyFile: orNull(config.SetupKeyFile), Hostname: orNull(config.Hostname),
		ManagementUrl: config.ManagementURL, CaPin: config.CAPin, UserData: text,
	}, nil
}

// checkInstall tells what a way of installing lacks or has too much.
func checkInstall(c cloudinit.Config) (wrong []problem.FieldError) {
	if c.Install == cloudinit.None {
		for _, field := range [][2]string{{"agent_url", c.AgentURL}, {"agent_sha256", c.AgentSHA256}} {
			if field[1] != "" {
				wrong = append(wrong, problem.Field(field[0], "has no use when install is none; leave it out"))
			}
		}
		return wrong
	}
	if c.AgentURL == "" {
		wrong = append(wrong, problem.Field("agent_url", "must say where the machine downloads the agent; set install to none when the image has it"))
	}
	if c.AgentSHA256 == "" {
		wrong = append(wrong, problem.Field("agent_sha256", "must say what the download hashes to, so that nobody else's program is installed"))
	}
	if _, ok := cloudinit.PackageKind(c.AgentURL); !ok && c.AgentURL != "" && c.Install == cloudinit.Package {
		wrong = append(wrong, problem.Field("agent_url", "must end with .deb, .rpm or .apk when install is package"))
	}
	return wrong
}

// given is a value that may be null or absent, as "".
func given(value nullable.Nullable[string]) string {
	text, err := value.Get()
	if err != nil {
		return ""
	}
	return text
}

func orNull(text string) nullable.Nullable[string] {
	if text == "" {
		return nullable.NewNullNullable[string]()
	}
	return nullable.NewNullableWithValue(text)
}
