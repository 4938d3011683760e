"""The SMTP engine: the only package that knows aiosmtpd."""
