agent_url    = "https://downloads.example.org/wattle_linux_amd64"
agent_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
project      = "example"
