"""The one command: starts any process of the installation, or all of them."""
