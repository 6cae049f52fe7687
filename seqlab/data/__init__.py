"""Data: encoding, loaders, statistics and the LightningDataModule."""
