# Points Terraform's http backend at the control plane of the credentials profile.
# Source it: . ./env.sh

profile=${WATTLE_CREDENTIALS:-$HOME/.config/wattle/credentials}
member() { sed -n 's/^ *"'"$1"'": "\(.*\)",\{0,1\}$/\1/p' "$profile"; }

TF_HTTP_ADDRESS=$(member url)/api/terraform/states/example
TF_HTTP_LOCK_ADDRESS=$TF_HTTP_ADDRESS
TF_HTTP_UNLOCK_ADDRESS=$TF_HTTP_ADDRESS
TF_HTTP_USERNAME=wattle # any name; the token counts
TF_HTTP_PASSWORD=${WATTLE_TOKEN:-$(member token)}
export TF_HTTP_ADDRESS TF_HTTP_LOCK_ADDRESS TF_HTTP_UNLOCK_ADDRESS TF_HTTP_USERNAME TF_HTTP_PASSWORD

# wattle-server up leaves the certificate of its own authority beside the profile.
if [ -e "$profile.ca.pem" ]; then
  TF_HTTP_CLIENT_CA_CERTIFICATE_PEM=$(cat "$profile.ca.pem")
  export TF_HTTP_CLIENT_CA_CERTIFICATE_PEM
fi
