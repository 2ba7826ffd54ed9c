package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const provider = "terraform-provider-wattle"

// hosts are the registries in whose name a filesystem mirror answers.
var hosts = []string{"registry.terraform.io", "registry.opentofu.org"}

// protocol is the version of Terraform's plugin protocol that the provider speaks.
const protocol = "6.0"

// A target is a platform of Go.
type target struct{ system, arch string }

// A release is what is built.
type release struct {
	version   string // without v
	out       string // folder
	source    string // package of the provider
	platforms []target
}

// make builds everything anew.
func (r *release) make(ctx context.Context) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil { //nolint:gosec // a release is public
		return fmt.Errorf("make the folder of the release: %w", err)
	}
	var sums strings.Builder
	for _, platform := range r.platforms {
		program, err := r.build(ctx, platform)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s_%s_%s_%s.zip", provider, r.version, platform.system, platform.arch)
		archive, err := packed(r.programName(platform), program)
		if err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		if err := r.keep(&sums, name, archive); err != nil {
			return err
		}
		if err := r.mirror(name, archive); err != nil {
			return err
		}
	}
	manifest, err := json.MarshalIndent(map[string]any{
		"version": 1, "metadata": map[string]any{"protocol_versions": []string{protocol}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	if err := r.keep(&sums, fmt.Sprintf("%s_%s_manifest.json", provider, r.version), append(manifest, '\n')); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("%s_%s_SHA256SUMS", provider, r.version), []byte(sums.String()))
}

func (r *release) programName(platform target) string {
	name := provider + "_v" + r.version
	if platform.system == "windows" {
		name += ".exe"
	}
	return name
}

// build compiles the provider. Neither paths nor the state of the work tree
// get into the program, so that others can build the same bytes.
func (r *release) build(ctx context.Context, platform target) (program []byte, err error) {
	folder, err := os.MkdirTemp("", "release-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the program: %w", err)
	}
	defer os.RemoveAll(folder) //nolint:errcheck // a temporary folder
	file := filepath.Join(folder, "program")
	ldflags := "-s -w -buildid= -X github.com/wattlenet/wattle/internal/program.release=" + r.version
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", file, r.source) //nolint:gosec // flags of the developer
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.system, "GOARCH="+platform.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=")
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build for %s/%s: %w\n%s", platform.system, platform.arch, err, text)
	}
	if program, err = os.ReadFile(file); err != nil { //nolint:gosec // built above
		return nil, fmt.Errorf("read the program: %w", err)
	}
	return program, nil
}

// packed is a zip of one executable file, without a time of its own.
func packed(name string, program []byte) ([]byte, error) {
	var raw bytes.Buffer
	archive := zip.NewWriter(&raw)
	archive.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)} // the first that zip knows
	header.SetMode(0o755)
	file, err := archive.CreateHeader(header)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(program); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return raw.Bytes(), nil
}

// keep writes a file of the release and notes its sum.
func (r *release) keep(sums *strings.Builder, name string, raw []byte) error {
	digest := sha256.Sum256(raw)
	fmt.Fprintf(sums, "%s  %s\n", hex.EncodeToString(digest[:]), name)
	return r.write(name, raw)
}

// mirror puts a zip where Terraform looks for it in a filesystem mirror.
func (r *release) mirror(name string, raw []byte) error {
	for _, host := range hosts {
		folder := filepath.Join("mirror", host, "wattlenet", "wattle")
		if err := os.MkdirAll(filepath.Join(r.out, folder), 0o755); err != nil { //nolint:gosec // a release is public
			return fmt.Errorf("make the filesystem mirror: %w", err)
		}
		if err := r.write(filepath.Join(folder, name), raw); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) write(name string, raw []byte) error {
	if err := os.WriteFile(filepath.Join(r.out, name), raw, 0o644); err != nil { //nolint:gosec // a release is public
		return fmt.Errorf("write the release: %w", err)
	}
	return nil
}
