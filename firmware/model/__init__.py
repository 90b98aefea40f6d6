"""Float models as their folders hold them, and the texts that come with Celosia."""
