client_secret = "an-example"
