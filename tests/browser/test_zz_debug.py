import time


def test_dbg(gallery, tiny_runs, screen):
    screen.open(gallery, "train", run=tiny_runs.runs["vae"])
    print("first", screen.page.url, screen.key("run").get_by_role("combobox").input_value())
    for n in (0, 1, 2, 3, 0):
        screen.page.get_by_test_id("stSidebarNavLink").nth(n).click()
        for _ in range(4):
            time.sleep(0.5)
            print(
                n,
                screen.page.url,
                screen.key("run").get_by_role("combobox").input_value(),
                screen.page.get_by_test_id("stToast").all_inner_texts(),
            )
    print(screen.complaints)
