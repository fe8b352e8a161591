import { defineConfig } from '@playwright/test';

/**
 * One browser, one test at a time: every test has a Jupyter server of its own, and all share one emulated Azure.
 * The browser is the system's; Playwright downloads none.
 */
export default defineConfig({
  testDir: 'tests',
  timeout: 180_000,
  expect: { timeout: 20_000 },
  workers: 1,
  // Chromium aborts the requests under way with ERR_NETWORK_CHANGED when the computer's network interfaces change, and
  // emulated machines that start or end in other test runs on a CI machine do change them.
  retries: process.env.CI ? 1 : 0,
  forbidOnly: !!process.env.CI,
  reporter: [['list']],
  outputDir: 'test-results',
  use: {
    viewport: { width: 1280, height: 900 },
    locale: 'en-US',
    screenshot: 'only-on-failure',
    trace: 'retain-on-failure',
    video: 'off',
    launchOptions: {
      executablePath: process.env.PLAYWRIGHT_CHROMIUM_EXECUTABLE_PATH ?? '/usr/bin/chromium',
      args: [
        '--no-sandbox',
        '--disable-dev-shm-usage',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync'
      ]
    }
  }
});
