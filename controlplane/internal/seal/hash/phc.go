package hash

import (
	"encoding/base64"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// decode reads $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>; ErrForm for all else.
func decode(phc string) (c cost, salt, sum []byte, err error) {
	if len(phc) > 512 {
		return c, nil, nil, ErrForm
	}
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return c, nil, nil, ErrForm
	}
	fields := strings.Split(parts[3], ",")
	if len(fields) != 3 {
		return c, nil, nil, ErrForm
	}
	memory, ok1 := parameter(fields[0], "m=", 8, maxMemoryKiB)
	rounds, ok2 := parameter(fields[1], "t=", 1, maxPasses)
	width, ok3 := parameter(fields[2], "p=", 1, maxLanes)
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	switch {
	case !ok1, !ok2, !ok3, err1 != nil, err2 != nil, len(salt) < 8, len(salt) > 64, len(sum) < 16, len(sum) > 64, memory < 8*width:
		return c, nil, nil, ErrForm
	}
	return cost{memory, rounds, uint8(width)}, salt, sum, nil
}

func parameter(text, name string, least, most uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(text, name)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && uint32(n) >= least && uint32(n) <= most && digits == strconv.FormatUint(n, 10)
}
